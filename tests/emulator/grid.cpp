// Runs the threads of a grid. A fiber takes one thread after another; one whose thread waits at a barrier is left
// there, and another fiber goes on with the threads that have not begun.
#include <ucontext.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "cuda_emulator.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

namespace {

constexpr size_t STACK = 128 << 10;
constexpr unsigned WARP = 32;

struct Warp {
    std::array<uint64_t, WARP> given, told;
    unsigned arrived = 0;
    uint64_t turn = 0;
};

struct Stack {
    const void* bottom = nullptr;
    size_t size = 0;
};

// Tells AddressSanitizer on which stack the program goes on; returns when this stack's turn comes again.
void change(ucontext_t& here, ucontext_t& there, [[maybe_unused]] const Stack& stack) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack.bottom, stack.size);
    swapcontext(&here, &there);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    swapcontext(&here, &there);
#endif
}

void entry();

struct Fiber {
    std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(STACK);
    ucontext_t context;
    uint3 thread{};
    // What its thread waits for: *turn to be another number than it was.
    const uint64_t* turn = nullptr;
    uint64_t seen = 0;
    bool done = false;

    void prepare() {
        done = false;
        getcontext(&context);
        context.uc_stack.ss_sp = stack.get();
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }

    bool ready() const { return !done && (!turn || *turn != seen); }
};

class Block {
public:
    Block(uint3 block, const Work& work) : block(block), work(work), warps((threads() + WARP - 1) / WARP) {}

    void run();
    void fiber_main();
    void wait_for_change(const uint64_t& turn);

    Warp& warp() { return warps[current->thread.x / WARP]; }
    unsigned lane() const { return current->thread.x % WARP; }
    void meet();

private:
    uint3 block;
    const Work& work;
    std::vector<Warp> warps;
    std::vector<std::unique_ptr<Fiber>> fibers;
    Fiber* current = nullptr;
    ucontext_t scheduler;
    Stack scheduler_stack;
    unsigned begun = 0, arrived = 0;
    uint64_t turn = 0;

    unsigned threads() const { return block.x * block.y * block.z; }
    void resume(Fiber& fiber);
    Fiber& begin();
    void take_place() const;
};

thread_local Block* running = nullptr;
// Stacks outlive their block: to make one costs more than most kernels.
thread_local std::vector<std::unique_ptr<Fiber>> idle;

void entry() { running->fiber_main(); }

// fiber.thread.x counts all threads of the block; a kernel sees it in three dimensions.
void Block::take_place() const {
    unsigned thread = current->thread.x;
    thread_index = {thread % block.x, thread / block.x % block.y, thread / block.x / block.y};
}

void Block::fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack.bottom, &scheduler_stack.size);
#endif
    Fiber& self = *current;
    while (begun < threads()) {
        self.thread.x = begun++;
        take_place();
        work();
    }
    self.done = true;
    change(self.context, scheduler, scheduler_stack);
}

void Block::wait_for_change(const uint64_t& turn) {
    Fiber& self = *current;
    self.turn = &turn;
    self.seen = turn;
    change(self.context, scheduler, scheduler_stack);
    self.turn = nullptr;
}

void Block::meet() {
    if (++arrived < threads()) return wait_for_change(turn);
    arrived = 0;
    turn++;
}

void Block::resume(Fiber& fiber) {
    current = &fiber;
    take_place();
    change(scheduler, fiber.context, {fiber.stack.get(), STACK});
}

Fiber& Block::begin() {
    std::unique_ptr<Fiber> fiber;
    if (idle.empty()) {
        fiber = std::make_unique<Fiber>();
    } else {
        fiber = std::move(idle.back());
        idle.pop_back();
    }
    fibers.push_back(std::move(fiber));
    fibers.back()->prepare();
    return *fibers.back();
}

void Block::run() {
    while (true) {
        bool progress = false;
        // A new fiber only when all others wait.
        for (size_t i = 0; i < fibers.size(); i++) {
            if (fibers[i]->ready()) {
                resume(*fibers[i]);
                progress = true;
            }
        }
        if (begun < threads()) {
            resume(begin());
            progress = true;
        }
        if (!progress) break;
    }
    for (auto& fiber : fibers) {
        if (!fiber->done) {
            std::fputs("a thread of a kernel waits for others that never come\n", stderr);
            std::abort();
        }
        idle.push_back(std::move(fiber));
    }
}

}  // namespace

const uint64_t* exchange(unsigned mask, uint64_t value) {
    Warp& warp = running->warp();
    unsigned lane = running->lane();
    if (!(mask >> lane & 1)) {
        std::fputs("a thread of a kernel is not in the mask that it gives\n", stderr);
        std::abort();
    }
    warp.given[lane] = value;
    warp.arrived |= 1u << lane;
    if (warp.arrived == mask) {
        // What a lane that takes no part would have given is anything.
        warp.told.fill(0xa5a5a5a5a5a5a5a5);
        for (unsigned other = 0; other < WARP; other++) {
            if (mask >> other & 1) warp.told[other] = warp.given[other];
        }
        warp.arrived = 0;
        warp.turn++;
    } else {
        running->wait_for_change(warp.turn);
    }
    return warp.told.data();
}

void meet() { running->meet(); }

void run_grid(uint3 grid, uint3 block, const Work& thread) {
    grid_dim = grid;
    block_dim = block;
    // The last first: a GPU promises no order either, and this is not the one that hides who relies on one.
    for (unsigned z = grid.z; z-- > 0;) {
        for (unsigned y = grid.y; y-- > 0;) {
            for (unsigned x = grid.x; x-- > 0;) {
                block_index = {x, y, z};
                Block one(block, thread);
                running = &one;
                one.run();
                running = nullptr;
            }
        }
    }
}

std::map<std::string, Bind, std::less<>>& kernels() {
    // Streams' threads may use it until the process ends.
    static auto& all = *new std::map<std::string, Bind, std::less<>>;
    return all;
}

}  // namespace emulator

// Runs a kernel now, in the calling thread; false where there is none of that name. Tests call it.
extern "C" __attribute__((visibility("default"))) bool emulate_launch(const char* name, const unsigned* grid,
                                                                      const unsigned* block, void** parameters) {
    auto kernel = emulator::kernels().find(std::string_view(name));
    if (kernel == emulator::kernels().end()) return false;
    emulator::run_grid({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, kernel->second(parameters));
    return true;
}
