// The index of each row's largest value: the first of equals, NaN only where there is nothing else.
//
// Shapes:    in [rows][width] -> out [rows]; 1 <= width.
// Datatypes: f32, f16, bf16 -> i32.
// Launch:    block 256, one warp a row: grid.x over rows / 8.
// Reference: the first index of `top_k` in src/tensor/reduce.rs.
#include "common.cuh"

template <typename T>
__device__ inline void argmax(const T* __restrict__ in, i32* __restrict__ out, u32 rows, u64 width) {
    Warp warp;
    for (u64 r : warp.rows(rows)) {
        auto greater = [](u64 a, u64 b) { return a > b ? a : b; };
        u64 best = 0;
        warp.each(in + r * width, width, [&](u64 i, float value) { best = greater(best, rank(value, i)); });
        best = warp.reduce(best, greater);
        if (warp.lane == 0) out[r] = i32(ranked(best));
    }
}

extern "C" __global__ void argmax_f32(const float* in, i32* out, u32 rows, u32 width) {
    argmax(in, out, rows, width);
}

extern "C" __global__ void argmax_f16(const f16* in, i32* out, u32 rows, u32 width) {
    argmax(in, out, rows, width);
}

extern "C" __global__ void argmax_bf16(const bf16* in, i32* out, u32 rows, u32 width) {
    argmax(in, out, rows, width);
}
