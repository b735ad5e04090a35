// What all kernels share: types, the way through a grid, 16-byte access, 16-bit floats and the lanes of a warp.
// NVRTC compiles this without any other header. Everything is little-endian, as on every device.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i16 = short;
using i32 = int;
using i64 = long long;

// ---- What the host packs; src/device/cuda writes the same bytes.

// A row of a batch, in the packed upload.
struct Row {
    u32 offset;    // bytes to its first block
    u32 encoding;  // one of `Encoding`
    u64 stride;    // bytes from one of its outer blocks to the next
};

// A message's window, in the packed upload.
struct Window {
    u32 head_offset, head_length;
    u32 tail_offset, tail_length;
    u32 raw;  // not 0: head_offset is where a whole row stands, in the model's own datatype
    u32 unused;
};

// Where a row's state comes from, and where its new state is kept.
struct Seat {
    i32 from;  // a slot; negative: the initial state
    i32 to;    // a slot; negative: nowhere
};

// How numbers stand in a row's bytes.
enum Encoding : u32 { RAW, F32LE, PCM_S16LE, PCM_S16BE, UINT8, MULAW, ALAW, F16, BF16 };

// ---- The way through a grid: each thread takes every n-th of a dimension's items, so that any geometry is right.

class Strided {
    u64 start, stop, step;

    struct Place {
        u64 at, step;
        __device__ u64 operator*() const { return at; }
        __device__ void operator++() { at += step; }
        __device__ bool operator!=(Place end) const { return at < end.at; }
    };

public:
    __device__ Strided(u64 start, u64 stop, u64 step) : start(start), stop(stop), step(step) {}
    __device__ Place begin() const { return {start, step}; }
    __device__ Place end() const { return {stop, step}; }
};

__device__ inline Strided along_x(u64 count) {
    return {u64(blockIdx.x) * blockDim.x + threadIdx.x, count, u64(gridDim.x) * blockDim.x};
}

__device__ inline Strided along_y(u64 count) {
    return {u64(blockIdx.y) * blockDim.y + threadIdx.y, count, u64(gridDim.y) * blockDim.y};
}

__device__ inline Strided along_z(u64 count) {
    return {u64(blockIdx.z) * blockDim.z + threadIdx.z, count, u64(gridDim.z) * blockDim.z};
}

// ---- Memory: 16 bytes an access where addresses allow it.

constexpr u32 PIECE = 16;

// Values that one access moves.
template <typename T, u32 COUNT = PIECE / sizeof(T)>
struct alignas(sizeof(T) * COUNT) Pack {
    T at[COUNT];
};

template <typename T>
__device__ inline bool holds(const void* place) {
    return reinterpret_cast<u64>(place) % alignof(T) == 0;
}

// A value at any address.
template <typename T>
__device__ inline T load(const u8* from) {
    if (holds<T>(from)) return *reinterpret_cast<const T*>(from);
    T bits = 0;
    for (u32 byte = 0; byte < sizeof(T); byte++) bits |= T(T(from[byte]) << (8 * byte));
    return bits;
}

// Copies whole words along x, or writes zeros where there is no source; returns how many bytes it did.
template <typename Word>
__device__ inline u64 copy_words(u8* to, const u8* from, u64 bytes) {
    u64 words = bytes / sizeof(Word);
    for (u64 i : along_x(words)) {
        reinterpret_cast<Word*>(to)[i] = from ? reinterpret_cast<const Word*>(from)[i] : Word{};
    }
    return words * sizeof(Word);
}

// Copies a block along x, or writes zeros where there is no source, in the widest words that both sides hold.
__device__ inline void copy(u8* to, const u8* from, u64 bytes) {
    using Piece = Pack<u32>;
    u64 done = 0;
    if (holds<Piece>(to) && holds<Piece>(from)) done = copy_words<Piece>(to, from, bytes);
    else if (holds<u32>(to) && holds<u32>(from)) done = copy_words<u32>(to, from, bytes);
    copy_words<u8>(to + done, from ? from + done : from, bytes - done);
}

// Writes element(i) for every i below count, along x.
template <typename T, typename Element>
__device__ inline void fill(T* to, u64 count, Element element) {
    u64 done = 0;
    if (holds<Pack<T>>(to)) {
        constexpr u32 EACH = PIECE / sizeof(T);
        for (u64 i : along_x(count / EACH)) {
            Pack<T> pack;
            for (u32 j = 0; j < EACH; j++) pack.at[j] = element(i * EACH + j);
            reinterpret_cast<Pack<T>*>(to)[i] = pack;
        }
        done = count / EACH * EACH;
    }
    for (u64 i : along_x(count - done)) to[done + i] = element(done + i);
}

// ---- Numbers. 16-bit floats widen exactly, on their bits: cuda_fp16.h is no part of NVRTC.

struct f16 {
    u16 bits;
};

struct bf16 {
    u16 bits;
};

__device__ inline float number(float value) { return value; }

__device__ inline float number(bf16 value) { return __uint_as_float(u32(value.bits) << 16); }

__device__ inline float number(f16 value) {
    u32 sign = value.bits & 0x8000, magnitude = value.bits & 0x7fff, wide = magnitude << 13;
    // The exponents' biases are 112 apart, and a multiplication makes subnormals normal as well.
    wide = magnitude < 0x7c00 ? __float_as_uint(__uint_as_float(wide) * 0x1p112f) : wide | 0x7f800000;
    return __uint_as_float(sign << 16 | wide);
}

// ---- Reductions: one warp a row.

// The thread's place among the lanes that share its rows. A block's last warp may have fewer than 32.
struct Warp {
    u32 lane, lanes, mask;
    u64 first, step;

    __device__ Warp() {
        u32 thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        u32 threads = blockDim.x * blockDim.y * blockDim.z;
        u64 block = (u64(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        u64 blocks = u64(gridDim.x) * gridDim.y * gridDim.z;
        u32 warp = thread / 32, warps = (threads + 31) / 32;
        lane = thread % 32;
        lanes = threads - warp * 32 < 32 ? threads - warp * 32 : 32;
        mask = 0xffffffffu >> (32 - lanes);
        first = block * warps + warp;
        step = blocks * warps;
    }

    // The rows that this warp takes.
    __device__ Strided rows(u64 count) const { return {first, count, step}; }

    // All lanes' values joined, in one order, and told to all.
    template <typename T, typename Join>
    __device__ T reduce(T value, Join join) const {
        for (u32 distance = 16; distance > 0; distance /= 2) {
            T other = __shfl_down_sync(mask, value, distance);
            if (lane + distance < lanes) value = join(value, other);
        }
        return __shfl_sync(mask, value, 0);
    }

    // Calls take(i, value) for every element of a row, each in one lane.
    template <typename T, typename Take>
    __device__ void each(const T* row, u64 width, Take take) const {
        u64 done = 0;
        if (holds<Pack<T>>(row)) {
            constexpr u32 EACH = PIECE / sizeof(T);
            for (u64 i : Strided(lane, width / EACH, lanes)) {
                Pack<T> pack = reinterpret_cast<const Pack<T>*>(row)[i];
                for (u32 j = 0; j < EACH; j++) take(i * EACH + j, number(pack.at[j]));
            }
            done = width / EACH * EACH;
        }
        for (u64 i : Strided(done + lane, width, lanes)) take(i, number(row[i]));
    }
};

// A number's place among its row's: the greater key comes first. Equal numbers keep their order, and those that
// are none come last. No key is 0.
__device__ inline u64 rank(float value, u64 index) {
    u32 bits = __float_as_uint(value + 0.0f);  // -0 equals 0
    u32 order = bits & 0x80000000 ? ~bits : bits | 0x80000000;
    return u64(value == value ? order : 0) << 32 | u32(~index);
}

// The index that a key was made of.
__device__ inline u32 ranked(u64 key) { return ~u32(key); }
