// Device memory, pinned host memory, and copies between them. Every allocation is one of the system's and of exactly
// the size that was asked for, so that AddressSanitizer sees whoever goes beyond it.
#include <cstdlib>
#include <cstring>
#include <map>

#include "driver.h"

namespace emulator {

namespace {

constexpr size_t ALIGNMENT = 256;
// Fresh memory holds anything but zeros.
constexpr int GARBAGE = 0xa5;

struct Allocation {
    size_t size;
    Device* device;
};

// Blocks of memory by their address.
class Blocks {
    std::mutex lock;
    std::map<uintptr_t, Allocation> blocks;

public:
    void add(void* address, Allocation allocation) {
        std::lock_guard guard(lock);
        blocks[reinterpret_cast<uintptr_t>(address)] = allocation;
    }

    // The block that began here; of size 0 if none did.
    Allocation take(uintptr_t address) {
        std::lock_guard guard(lock);
        auto node = blocks.extract(address);
        return node ? node.mapped() : Allocation{0, nullptr};
    }

    bool hold(uintptr_t address, size_t size) {
        std::lock_guard guard(lock);
        auto after = blocks.upper_bound(address);
        if (after == blocks.begin()) return false;
        auto& [start, block] = *--after;
        return address - start <= block.size && size <= block.size - (address - start);
    }
};

auto& on_device = *new Blocks;
auto& pinned = *new Blocks;

void* allocate(size_t size) {
    void* memory = nullptr;
    if (posix_memalign(&memory, ALIGNMENT, size) != 0) return nullptr;
    return std::memset(memory, GARBAGE, size);
}

Result allocate_on_device(DevicePointer* pointer, size_t size) {
    if (size == 0) return INVALID_VALUE;
    Device* device = current_device();
    std::lock_guard guard(device->lock);
    if (size > settings().memory - device->used) return OUT_OF_MEMORY;
    void* memory = allocate(size);
    if (!memory) return OUT_OF_MEMORY;
    device->used += size;
    on_device.add(memory, {size, device});
    *pointer = reinterpret_cast<DevicePointer>(memory);
    return SUCCESS;
}

Result free_on_device(DevicePointer pointer) {
    if (pointer == 0) return SUCCESS;
    auto [size, device] = on_device.take(pointer);
    if (!device) return INVALID_VALUE;
    std::lock_guard guard(device->lock);
    device->used -= size;
    std::free(reinterpret_cast<void*>(pointer));
    return SUCCESS;
}

// Copies where both sides are pinned or on the device: nothing but the stream says when.
Result copy_later(void* to, const void* from, size_t size, void* handle) {
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    stream->push([=] { std::memcpy(to, from, size); });
    return SUCCESS;
}

template <typename T>
T* at(DevicePointer pointer) {
    return reinterpret_cast<T*>(pointer);
}

}  // namespace

}  // namespace emulator

using namespace emulator;

DRIVER_API cuMemGetInfo_v2(size_t* free, size_t* total) {
    if (Result bad = without_context()) return bad;
    std::lock_guard guard(current_device()->lock);
    *total = settings().memory;
    *free = *total - current_device()->used;
    return SUCCESS;
}

DRIVER_API cuMemAlloc_v2(DevicePointer* pointer, size_t size) {
    if (Result bad = without_context()) return bad;
    return allocate_on_device(pointer, size);
}

// At once, without waiting for work that may use it: whoever frees has to know that none does.
DRIVER_API cuMemFree_v2(DevicePointer pointer) {
    if (Result bad = without_context()) return bad;
    return free_on_device(pointer);
}

DRIVER_API cuMemAllocAsync(DevicePointer* pointer, size_t size, void* handle) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
    return allocate_on_device(pointer, size);
}

DRIVER_API cuMemFreeAsync(DevicePointer pointer, void* handle) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
    if (pointer && !on_device.hold(pointer, 0)) return INVALID_VALUE;
    stream->push([=] { free_on_device(pointer); });
    return SUCCESS;
}

DRIVER_API cuMemHostAlloc(void** memory, size_t size, unsigned) {
    if (Result bad = without_context()) return bad;
    if (size == 0) return INVALID_VALUE;
    *memory = allocate(size);
    if (!*memory) return OUT_OF_MEMORY;
    pinned.add(*memory, {size, current_device()});
    return SUCCESS;
}

DRIVER_API cuMemFreeHost(void* memory) {
    if (!pinned.take(reinterpret_cast<uintptr_t>(memory)).device) return INVALID_VALUE;
    std::free(memory);
    return SUCCESS;
}

DRIVER_API cuMemHostRegister_v2(void* memory, size_t size, unsigned) {
    if (Result bad = without_context()) return bad;
    if (!memory || size == 0) return INVALID_VALUE;
    pinned.add(memory, {size, current_device()});
    return SUCCESS;
}

DRIVER_API cuMemHostUnregister(void* memory) {
    return pinned.take(reinterpret_cast<uintptr_t>(memory)).device ? SUCCESS : INVALID_VALUE;
}

// From memory that is not pinned the bytes are taken before this returns, as by the real driver.
DRIVER_API cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, size_t size, void* handle) {
    if (Result bad = without_context()) return bad;
    if (!on_device.hold(to, size)) return INVALID_VALUE;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture || pinned.hold(reinterpret_cast<uintptr_t>(from), size)) {
        return copy_later(at<void>(to), from, size, handle);
    }
    auto* bytes = static_cast<const char*>(from);
    stream->push([to, taken = std::vector<char>(bytes, bytes + size)] {
        std::memcpy(at<void>(to), taken.data(), taken.size());
    });
    return SUCCESS;
}

// Into memory that is not pinned the copy is done when this returns, as by the real driver.
DRIVER_API cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, size_t size, void* handle) {
    if (Result bad = without_context()) return bad;
    if (!on_device.hold(from, size)) return INVALID_VALUE;
    if (Result bad = copy_later(to, at<void>(from), size, handle)) return bad;
    auto stream = stream_of(handle);
    if (!stream->capture && !pinned.hold(reinterpret_cast<uintptr_t>(to), size)) stream->synchronize();
    return SUCCESS;
}

DRIVER_API cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, size_t size, void* handle) {
    if (Result bad = without_context()) return bad;
    if (!on_device.hold(to, size) || !on_device.hold(from, size)) return INVALID_VALUE;
    return copy_later(at<void>(to), at<void>(from), size, handle);
}

DRIVER_API cuMemsetD8Async(DevicePointer to, unsigned char value, size_t size, void* handle) {
    if (Result bad = without_context()) return bad;
    if (!on_device.hold(to, size)) return INVALID_VALUE;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    stream->push([=] { std::memset(at<void>(to), value, size); });
    return SUCCESS;
}

// The synchronous ones are works of the default stream, which no other stream waits for.
static Result now(Result pushed) {
    if (pushed == SUCCESS) current_device()->null_stream->synchronize();
    return pushed;
}

DRIVER_API cuMemcpyHtoD_v2(DevicePointer to, const void* from, size_t size) {
    return now(cuMemcpyHtoDAsync_v2(to, from, size, nullptr));
}

DRIVER_API cuMemcpyDtoH_v2(void* to, DevicePointer from, size_t size) {
    return now(cuMemcpyDtoHAsync_v2(to, from, size, nullptr));
}

DRIVER_API cuMemcpyDtoD_v2(DevicePointer to, DevicePointer from, size_t size) {
    return now(cuMemcpyDtoDAsync_v2(to, from, size, nullptr));
}

// But for this one, which the real driver does not wait for either.
DRIVER_API cuMemsetD8_v2(DevicePointer to, unsigned char value, size_t size) {
    return cuMemsetD8Async(to, value, size, nullptr);
}

// Pools are not emulated: memory goes back at once.
DRIVER_API cuDeviceGetDefaultMemPool(void** pool, int) {
    *pool = &on_device;
    return SUCCESS;
}

DRIVER_API cuDeviceGetMemPool(void** pool, int ordinal) { return cuDeviceGetDefaultMemPool(pool, ordinal); }
DRIVER_API cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
DRIVER_API cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }
