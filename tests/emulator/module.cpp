// Modules and launches. A module may hold anything: what it defines are the kernels that were compiled in here.
#include <atomic>

#include "cuda_emulator.h"
#include "driver.h"

namespace emulator {

namespace {

struct Function {
    Bind bind;
};

// A module's functions live as long as it does.
struct Module {
    std::mutex lock;
    std::vector<void*> functions;
};

auto& modules = *new Handles<Module>;
auto& functions = *new Handles<Function>;

std::atomic<int> launches = 0;
// Launches of this thread until one is refused; none at 0.
thread_local int until_refused = 0;

constexpr unsigned MOST_THREADS = 1024, MOST_SHARED = 48 << 10;

bool within(unsigned value, unsigned most) { return 1 <= value && value <= most; }

}  // namespace

}  // namespace emulator

using namespace emulator;

DRIVER_API cuModuleLoadData(void** handle, const void* image) {
    if (Result bad = without_context()) return bad;
    if (!image) return INVALID_VALUE;
    *handle = modules.give(std::make_shared<Module>());
    return SUCCESS;
}

DRIVER_API cuModuleLoadDataEx(void** handle, const void* image, unsigned, int*, void**) {
    return cuModuleLoadData(handle, image);
}

DRIVER_API cuModuleUnload(void* handle) {
    auto module = modules.take(handle);
    if (!module) return INVALID_HANDLE;
    for (void* function : module->functions) functions.take(function);
    return SUCCESS;
}

DRIVER_API cuModuleGetFunction(void** handle, void* module, const char* name) {
    auto found = modules.find(module);
    if (!found) return INVALID_HANDLE;
    auto kernel = kernels().find(std::string_view(name));
    if (kernel == kernels().end()) return NOT_FOUND;
    *handle = functions.give(std::make_shared<Function>(kernel->second));
    std::lock_guard guard(found->lock);
    found->functions.push_back(*handle);
    return SUCCESS;
}

DRIVER_API cuModuleGetGlobal_v2(DevicePointer*, size_t*, void*, const char*) { return NOT_FOUND; }

// Of attribute 0, the threads that a block of it may have; others are 0.
DRIVER_API cuFuncGetAttribute(int* value, int attribute, void* handle) {
    if (!functions.find(handle)) return INVALID_HANDLE;
    *value = attribute == 0 ? int(MOST_THREADS) : 0;
    return SUCCESS;
}

DRIVER_API cuFuncSetAttribute(void* handle, int, int) { return functions.find(handle) ? SUCCESS : INVALID_HANDLE; }
DRIVER_API cuFuncSetCacheConfig(void* handle, int) { return functions.find(handle) ? SUCCESS : INVALID_HANDLE; }

// A test's: of this thread the launch that comes as the `count`th from here is refused, and the device stays well.
extern "C" __attribute__((visibility("default"))) void emulated_gpu_refuse(int count) { until_refused = count; }

DRIVER_API cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared, void* stream_handle, void** parameters,
                          void** extra) {
    if (Result bad = without_context()) return bad;
    auto function = functions.find(handle);
    auto stream = stream_of(stream_handle);
    if (!function || !stream) return INVALID_HANDLE;
    if (extra || !parameters) return NOT_SUPPORTED;
    // A grid without blocks is an error on every device.
    bool fits = within(grid_x, 0x7fffffff) && within(grid_y, 65535) && within(grid_z, 65535) &&
                within(block_x, 1024) && within(block_y, 1024) && within(block_z, 64) &&
                block_x * block_y * block_z <= MOST_THREADS && shared <= MOST_SHARED;
    if (!fits) return INVALID_VALUE;
    if (until_refused > 0 && --until_refused == 0) return LAUNCH_OUT_OF_RESOURCES;
    stream->push([grid = uint3{grid_x, grid_y, grid_z}, block = uint3{block_x, block_y, block_z},
                  work = function->bind(parameters)] {
        if (++launches == settings().fault) return fail(ILLEGAL_ADDRESS);
        run_grid(grid, block, work);
    });
    return SUCCESS;
}
