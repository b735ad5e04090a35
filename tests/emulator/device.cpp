// Devices and their contexts, as the environment says:
//   EMULATED_GPU_COUNT        how many there are (1)
//   EMULATED_GPU_DRIVER       the driver's version (13000)
//   EMULATED_GPU_CAPABILITY   the compute capability, two digits or more (90)
//   EMULATED_GPU_MEMORY       bytes of memory (4 GiB)
//   EMULATED_GPU_DELAY        microseconds that a work of a stream takes longer at the most (0), to lose races reliably;
//                             how many follows from the number of the stream and of the work
//   EMULATED_GPU_FAULT        the launch that reads what it may not, which fails the device for good (none)
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"

namespace emulator {

namespace {

long long number(const char* name, long long otherwise) {
    const char* text = std::getenv(name);
    return text && *text ? std::atoll(text) : otherwise;
}

bool initialized = false;
thread_local Device* current = nullptr;
std::atomic<Result> failed = SUCCESS;

std::vector<std::unique_ptr<Device>>& devices() {
    static auto* all = [] {
        auto* all = new std::vector<std::unique_ptr<Device>>;
        for (int i = 0; i < settings().count; i++) {
            all->push_back(std::make_unique<Device>());
            all->back()->ordinal = i;
            all->back()->null_stream = Stream::start();
        }
        return all;
    }();
    return *all;
}

Device* device(int ordinal) {
    return initialized && ordinal >= 0 && ordinal < settings().count ? devices()[ordinal].get() : nullptr;
}

struct Named {
    Result result;
    const char *name, *text;
};

constexpr Named NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "cuInit was not called"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "there is no CUDA device"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "there is no such device"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "no context is current"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "there is no such object"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "not at this time"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "nothing has this name"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "not done yet"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "not emulated"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "a kernel read or wrote what it may not"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "a launch was refused"},
    {STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "not while a stream is captured"},
    {STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "the event is not of this capture"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "the event is of a capture"},
};

const Named* named(Result result) {
    for (const Named& named : NAMES) {
        if (named.result == result) return &named;
    }
    return nullptr;
}

}  // namespace

const Settings& settings() {
    static const Settings* read = [] {
        auto* settings = new Settings;
        settings->count = int(number("EMULATED_GPU_COUNT", settings->count));
        settings->driver = int(number("EMULATED_GPU_DRIVER", settings->driver));
        settings->capability = int(number("EMULATED_GPU_CAPABILITY", settings->capability));
        settings->memory = size_t(number("EMULATED_GPU_MEMORY", (long long)settings->memory));
        settings->delay = std::chrono::microseconds(number("EMULATED_GPU_DELAY", 0));
        settings->fault = int(number("EMULATED_GPU_FAULT", 0));
        return settings;
    }();
    return *read;
}

Device* current_device() { return current; }

Result failure() { return failed; }

void fail(Result why) { failed = why; }

Result without_context() { return !initialized ? NOT_INITIALIZED : !current ? INVALID_CONTEXT : failure(); }

}  // namespace emulator

using namespace emulator;

DRIVER_API cuInit(unsigned flags) {
    if (flags) return INVALID_VALUE;
    if (settings().count <= 0) return NO_DEVICE;
    initialized = true;
    return SUCCESS;
}

DRIVER_API cuDriverGetVersion(int* version) {
    *version = settings().driver;
    return SUCCESS;
}

// NVRTC asks for functions that are nobody else's, and takes it that there is a table: this one is empty. A table
// begins with its size in bytes.
DRIVER_API cuGetExportTable(const void** table, const void*) {
    static const size_t empty = sizeof(empty);
    *table = &empty;
    return SUCCESS;
}

DRIVER_API cuGetErrorName(Result result, const char** text) {
    const Named* found = named(result);
    *text = found ? found->name : nullptr;
    return found ? SUCCESS : INVALID_VALUE;
}

DRIVER_API cuGetErrorString(Result result, const char** text) {
    const Named* found = named(result);
    *text = found ? found->text : nullptr;
    return found ? SUCCESS : INVALID_VALUE;
}

DRIVER_API cuDeviceGetCount(int* count) {
    if (!initialized) return NOT_INITIALIZED;
    *count = settings().count;
    return SUCCESS;
}

DRIVER_API cuDeviceGet(int* handle, int ordinal) {
    if (!initialized) return NOT_INITIALIZED;
    if (!device(ordinal)) return INVALID_DEVICE;
    *handle = ordinal;
    return SUCCESS;
}

DRIVER_API cuDeviceGetName(char* name, int length, int ordinal) {
    if (!device(ordinal)) return INVALID_DEVICE;
    std::snprintf(name, size_t(length), "Thalweg emulated GPU");
    return SUCCESS;
}

DRIVER_API cuDeviceGetUuid_v2(char* uuid, int ordinal) {
    if (!device(ordinal)) return INVALID_DEVICE;
    std::memset(uuid, 0, 16);
    std::memcpy(uuid, "emulated GPU", 12);
    uuid[15] = char(ordinal);
    return SUCCESS;
}

DRIVER_API cuDeviceTotalMem_v2(size_t* bytes, int ordinal) {
    if (!device(ordinal)) return INVALID_DEVICE;
    *bytes = settings().memory;
    return SUCCESS;
}

// By the driver API's numbers; an attribute that is not here is 0.
DRIVER_API cuDeviceGetAttribute(int* value, int attribute, int ordinal) {
    if (!device(ordinal)) return INVALID_DEVICE;
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;              // threads of a block, along x, along y
    case 4: *value = 64; break;                                // along z
    case 5: *value = 0x7fffffff; break;                        // blocks along x
    case 6: case 7: *value = 65535; break;                     // along y, along z
    case 8: *value = 48 << 10; break;                          // bytes of shared memory of a block
    case 10: *value = 32; break;                               // threads of a warp
    case 16: *value = 4; break;                                // multiprocessors
    case 39: *value = 2048; break;                             // threads of a multiprocessor
    case 31: case 40: case 41: case 115: *value = 1; break;    // concurrent kernels, copies, one address space, pools
    case 75: *value = settings().capability / 10; break;
    case 76: *value = settings().capability % 10; break;
    default: *value = 0;
    }
    return SUCCESS;
}

DRIVER_API cuDevicePrimaryCtxRetain(void** context, int ordinal) {
    Device* found = device(ordinal);
    if (!found) return INVALID_DEVICE;
    *context = found;
    return SUCCESS;
}

// A primary context stays: what was loaded into it is looked up by handle alone.
DRIVER_API cuDevicePrimaryCtxRelease_v2(int ordinal) { return device(ordinal) ? SUCCESS : INVALID_DEVICE; }

DRIVER_API cuCtxSetCurrent(void* context) {
    if (!initialized) return NOT_INITIALIZED;
    current = static_cast<Device*>(context);
    return SUCCESS;
}

DRIVER_API cuCtxGetCurrent(void** context) {
    if (!initialized) return NOT_INITIALIZED;
    *context = current;
    return SUCCESS;
}

DRIVER_API cuCtxGetDevice(int* ordinal) {
    if (Result bad = without_context()) return bad;
    *ordinal = current->ordinal;
    return SUCCESS;
}

DRIVER_API cuCtxSetFlags(unsigned) { return without_context(); }

DRIVER_API cuCtxSynchronize() {
    if (Result bad = without_context()) return bad;
    for (auto& stream : streams().all()) {
        if (stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
        stream->synchronize();
    }
    current->null_stream->synchronize();
    return failure();
}
