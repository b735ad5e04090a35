// CUDA C++ as plain C++: the same text of a kernel, compiled for the emulated GPU.
//
// The threads of a block are fibers of one system thread. A thread runs until it ends or has to wait for others, so
// that kernels without barriers are plain loops. Only what the kernels use is here.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
// The blocks of a launch run one after another in one thread, so that each has this memory to itself.
#define __shared__ static thread_local

struct uint3 {
    unsigned x, y, z;
};
using dim3 = uint3;

namespace emulator {

// Where a thread of a kernel is; set anew whenever its fiber goes on.
inline thread_local uint3 thread_index, block_index, block_dim, grid_dim;

// Waits until all lanes of `mask` have given their value; the values of all of them, by lane.
const uint64_t* exchange(unsigned mask, uint64_t value);
// Waits until all threads of the block are here.
void meet();

// A kernel with its parameters copied, as it is when it has been launched.
using Work = std::function<void()>;
// Runs a kernel for every thread of a grid.
void run_grid(uint3 grid, uint3 block, const Work& thread);

// The kernels that were compiled, by name: each takes the parameters of a launch.
using Bind = std::function<Work(void** parameters)>;
std::map<std::string, Bind, std::less<>>& kernels();

template <typename... Parameters>
struct Kernel {
    Kernel(const char* name, void (*function)(Parameters...)) {
        kernels()[name] = [function](void** parameters) -> Work {
            return copied(function, parameters, std::index_sequence_for<Parameters...>());
        };
    }

private:
    template <size_t... PLACES>
    static Work copied(void (*function)(Parameters...), void** parameters, std::index_sequence<PLACES...>) {
        return [function, values = std::tuple(*static_cast<Parameters*>(parameters[PLACES])...)] {
            std::apply(function, values);
        };
    }
};

inline unsigned lane() {
    unsigned thread = (thread_index.z * block_dim.y + thread_index.y) * block_dim.x + thread_index.x;
    return thread % 32;
}

template <typename T>
T shuffle(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = exchange(mask, bits)[from];
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace emulator

#define threadIdx (emulator::thread_index)
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_dim)
#define gridDim (emulator::grid_dim)

inline void __syncthreads() { emulator::meet(); }
inline void __syncwarp(unsigned mask = ~0u) { emulator::exchange(mask, 0); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int from) {
    return emulator::shuffle(mask, value, unsigned(from) % 32);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
    unsigned lane = emulator::lane();
    return emulator::shuffle(mask, value, lane < distance ? lane : lane - distance);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
    unsigned lane = emulator::lane();
    return emulator::shuffle(mask, value, lane + distance > 31 ? lane : lane + distance);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int difference) {
    return emulator::shuffle(mask, value, (emulator::lane() ^ unsigned(difference)) % 32);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const uint64_t* votes = emulator::exchange(mask, predicate != 0);
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < 32; lane++) ballot |= (mask >> lane & 1 && votes[lane]) ? 1u << lane : 0;
    return ballot;
}

inline int __ffs(unsigned bits) { return bits ? std::countr_zero(bits) + 1 : 0; }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
