// What the parts of the emulated driver share: error codes, handles, the device and its streams.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#define DRIVER_API extern "C" __attribute__((visibility("default"))) emulator::Result

namespace emulator {

// The driver API's numbers for what can go wrong here.
enum Result : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    NOT_SUPPORTED = 801,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_ISOLATION = 905,
    CAPTURED_EVENT = 907,
    ILLEGAL_STATE = 401,
};

using Work = std::function<void()>;
using DevicePointer = uint64_t;

// What was given out as an opaque pointer, until it is taken back.
template <typename T>
class Handles {
    std::mutex lock;
    std::unordered_map<void*, std::shared_ptr<T>> given;

public:
    void* give(std::shared_ptr<T> object) {
        std::lock_guard guard(lock);
        void* handle = object.get();
        given[handle] = std::move(object);
        return handle;
    }

    std::shared_ptr<T> find(void* handle) {
        std::lock_guard guard(lock);
        auto place = given.find(handle);
        return place == given.end() ? nullptr : place->second;
    }

    std::shared_ptr<T> take(void* handle) {
        std::lock_guard guard(lock);
        auto node = given.extract(handle);
        return node ? node.mapped() : nullptr;
    }

    std::vector<std::shared_ptr<T>> all() {
        std::lock_guard guard(lock);
        std::vector<std::shared_ptr<T>> objects;
        for (auto& [_, object] : given) objects.push_back(object);
        return objects;
    }
};

// Work in the order of its launches, as a capture records it.
using Graph = std::vector<Work>;

// A queue of work and the thread that does it. Nothing else orders it: what a program does not wait for is a race.
class Stream {
public:
    static std::shared_ptr<Stream> start();

    // Does the work behind all that was pushed before, or records it. On a device that has failed, only what is done
    // always: what others wait for.
    void push(Work work, bool always = false);
    // Waits until all that was pushed is done.
    void synchronize();
    bool idle();
    // Lets the thread end once all is done. Nobody waits for it.
    void close();

    // Where work is recorded at present, if it is.
    std::shared_ptr<Graph> capture;

private:
    std::mutex lock;
    std::condition_variable changed;
    std::deque<std::pair<Work, bool>> queue;
    bool busy = false, closing = false;

    void work();
};

struct Device {
    int ordinal;
    std::shared_ptr<Stream> null_stream;
    std::mutex lock;
    size_t used = 0;
};

// What the environment says of the machine.
struct Settings {
    int count = 1, driver = 13000, capability = 90;
    size_t memory = size_t(4) << 30;
    std::chrono::microseconds delay{0};
    int fault = 0;
};

// Objects that live until the process ends, as threads of streams may.
const Settings& settings();
Handles<Stream>& streams();

// What all calls answer once the device has failed.
Result failure();
void fail(Result why);
constexpr bool ALWAYS = true;

// The device whose context is current in this thread, and what to answer where there is none.
Device* current_device();
Result without_context();

// The stream of a handle: 0, 1 and 2 are the default stream. None where the handle is not one.
std::shared_ptr<Stream> stream_of(void* handle);

}  // namespace emulator
