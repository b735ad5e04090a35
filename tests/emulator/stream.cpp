// Streams, events, and captured graphs.
#include "driver.h"

#include <atomic>
#include <random>
#include <thread>

namespace emulator {

std::shared_ptr<Stream> Stream::start() {
    auto stream = std::make_shared<Stream>();
    std::thread([stream] { stream->work(); }).detach();
    return stream;
}

void Stream::push(Work work, bool always) {
    if (capture) {
        capture->push_back(std::move(work));
        return;
    }
    std::lock_guard guard(lock);
    queue.emplace_back(std::move(work), always);
    changed.notify_all();
}

void Stream::work() {
    static std::atomic<unsigned> count = 0;
    std::minstd_rand random(1 + count++);
    std::unique_lock guard(lock);
    while (true) {
        changed.wait(guard, [&] { return !queue.empty() || closing; });
        if (queue.empty()) return;
        auto [next, always] = std::move(queue.front());
        queue.pop_front();
        busy = true;
        guard.unlock();
        if (settings().delay.count() > 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % (settings().delay.count() + 1)));
        }
        if (always || !failure()) next();
        next = nullptr;
        guard.lock();
        busy = false;
        changed.notify_all();
    }
}

void Stream::synchronize() {
    std::unique_lock guard(lock);
    changed.wait(guard, [&] { return queue.empty() && !busy; });
}

bool Stream::idle() {
    std::lock_guard guard(lock);
    return queue.empty() && !busy;
}

void Stream::close() {
    std::lock_guard guard(lock);
    closing = true;
    changed.notify_all();
}

Handles<Stream>& streams() {
    static auto* all = new Handles<Stream>;
    return *all;
}

std::shared_ptr<Stream> stream_of(void* handle) {
    if (reinterpret_cast<uintptr_t>(handle) <= 2) return current_device()->null_stream;
    return streams().find(handle);
}

namespace {

// The point of a stream that an event was last recorded at.
struct Moment {
    std::mutex lock;
    std::condition_variable changed;
    bool passed = false;
    std::chrono::steady_clock::time_point when;
    // Of a capture, which no program can wait for.
    std::shared_ptr<Graph> capture;

    void pass() {
        std::lock_guard guard(lock);
        passed = true;
        when = std::chrono::steady_clock::now();
        changed.notify_all();
    }

    void wait() {
        std::unique_lock guard(lock);
        changed.wait(guard, [&] { return passed; });
    }

    bool has_passed() {
        std::lock_guard guard(lock);
        return passed;
    }
};

struct Event {
    std::mutex lock;
    std::shared_ptr<Moment> recorded;
    bool timed;

    std::shared_ptr<Moment> moment() {
        std::lock_guard guard(lock);
        return recorded;
    }
};

auto& events = *new Handles<Event>;
auto& graphs = *new Handles<Graph>;

constexpr unsigned DISABLE_TIMING = 2;

}  // namespace

}  // namespace emulator

using namespace emulator;

DRIVER_API cuStreamCreate(void** handle, unsigned) {
    if (Result bad = without_context()) return bad;
    *handle = streams().give(Stream::start());
    return SUCCESS;
}

DRIVER_API cuStreamCreateWithPriority(void** handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

DRIVER_API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    if (Result bad = without_context()) return bad;
    *least = *greatest = 0;
    return SUCCESS;
}

DRIVER_API cuStreamDestroy_v2(void* handle) {
    auto stream = streams().take(handle);
    if (!stream) return INVALID_HANDLE;
    stream->close();
    return SUCCESS;
}

DRIVER_API cuStreamSynchronize(void* handle) {
    if (Result bad = without_context(); bad && bad != failure()) return bad;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
    stream->synchronize();
    return failure();
}

DRIVER_API cuStreamQuery(void* handle) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
    return stream->idle() ? SUCCESS : NOT_READY;
}

DRIVER_API cuStreamWaitEvent(void* handle, void* event, unsigned) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(handle);
    auto found = events.find(event);
    if (!stream || !found) return INVALID_HANDLE;
    auto moment = found->moment();
    if (!moment) return SUCCESS;
    // Only one stream takes part in a capture here, and in that one all is in order.
    if (moment->capture != stream->capture) return STREAM_CAPTURE_ISOLATION;
    if (!stream->capture) stream->push([moment] { moment->wait(); });
    return SUCCESS;
}

DRIVER_API cuLaunchHostFunc(void* handle, void (*function)(void*), void* argument) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    stream->push([=] { function(argument); });
    return SUCCESS;
}

// Unlike a host function it is called whatever has happened.
DRIVER_API cuStreamAddCallback(void* handle, void (*function)(void*, Result, void*), void* argument, unsigned flags) {
    if (Result bad = without_context()) return bad;
    if (flags) return INVALID_VALUE;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
    stream->push([=] { function(handle, failure(), argument); }, ALWAYS);
    return SUCCESS;
}

DRIVER_API cuEventCreate(void** handle, unsigned flags) {
    if (Result bad = without_context()) return bad;
    auto event = std::make_shared<Event>();
    event->timed = !(flags & DISABLE_TIMING);
    *handle = events.give(event);
    return SUCCESS;
}

DRIVER_API cuEventDestroy_v2(void* handle) { return events.take(handle) ? SUCCESS : INVALID_HANDLE; }

DRIVER_API cuEventRecord(void* handle, void* stream_handle) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(stream_handle);
    auto event = events.find(handle);
    if (!stream || !event) return INVALID_HANDLE;
    auto moment = std::make_shared<Moment>();
    moment->capture = stream->capture;
    if (!stream->capture) stream->push([moment] { moment->pass(); }, ALWAYS);
    std::lock_guard guard(event->lock);
    event->recorded = moment;
    return SUCCESS;
}

DRIVER_API cuEventQuery(void* handle) {
    auto event = events.find(handle);
    if (!event) return INVALID_HANDLE;
    auto moment = event->moment();
    if (moment && moment->capture) return CAPTURED_EVENT;
    return !moment || moment->has_passed() ? failure() : NOT_READY;
}

DRIVER_API cuEventSynchronize(void* handle) {
    auto event = events.find(handle);
    if (!event) return INVALID_HANDLE;
    auto moment = event->moment();
    if (moment && moment->capture) return CAPTURED_EVENT;
    if (moment) moment->wait();
    return failure();
}

DRIVER_API cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
    auto first = events.find(start), last = events.find(end);
    if (!first || !last || !first->timed || !last->timed) return INVALID_HANDLE;
    auto from = first->moment(), to = last->moment();
    if (!from || !to) return INVALID_HANDLE;
    if (from->capture || to->capture) return CAPTURED_EVENT;
    if (!from->has_passed() || !to->has_passed()) return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->when - from->when).count();
    return SUCCESS;
}

DRIVER_API cuEventElapsedTime(float* milliseconds, void* start, void* end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

DRIVER_API cuStreamBeginCapture_v2(void* handle, int) {
    if (Result bad = without_context()) return bad;
    auto stream = streams().find(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return ILLEGAL_STATE;
    stream->capture = std::make_shared<Graph>();
    return SUCCESS;
}

DRIVER_API cuStreamEndCapture(void* handle, void** graph) {
    auto stream = streams().find(handle);
    if (!stream) return INVALID_HANDLE;
    if (!stream->capture) return ILLEGAL_STATE;
    *graph = graphs.give(std::move(stream->capture));
    stream->capture = nullptr;
    return SUCCESS;
}

DRIVER_API cuStreamIsCapturing(void* handle, int* capturing) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    *capturing = stream->capture ? 1 : 0;
    return SUCCESS;
}

DRIVER_API cuGraphInstantiateWithFlags(void** handle, void* graph, unsigned long long) {
    auto found = graphs.find(graph);
    if (!found) return INVALID_HANDLE;
    *handle = graphs.give(std::make_shared<Graph>(*found));
    return SUCCESS;
}

DRIVER_API cuGraphLaunch(void* handle, void* stream_handle) {
    if (Result bad = without_context()) return bad;
    auto stream = stream_of(stream_handle);
    auto graph = graphs.find(handle);
    if (!stream || !graph) return INVALID_HANDLE;
    if (stream->capture) return STREAM_CAPTURE_UNSUPPORTED;
    for (const Work& work : *graph) stream->push(work);
    return SUCCESS;
}

DRIVER_API cuGraphUpload(void* handle, void*) { return graphs.find(handle) ? SUCCESS : INVALID_HANDLE; }
DRIVER_API cuGraphExecDestroy(void* handle) { return graphs.take(handle) ? SUCCESS : INVALID_HANDLE; }
DRIVER_API cuGraphDestroy(void* handle) { return graphs.take(handle) ? SUCCESS : INVALID_HANDLE; }
