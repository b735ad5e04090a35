// Logits -> probabilities, row by row.
//
// Shapes:    in [rows][width] -> out [rows][width].
// Datatypes: f32, f16, bf16 -> f32.
// Launch:    block 256, one warp a row: grid.x over rows / 8.
// Reference: `softmax` in src/tensor/reduce.rs, but for the order of its sum.
#include "common.cuh"

template <typename T>
__device__ inline void softmax(const T* in, float* out, u32 rows, u64 width) {
    Warp warp;
    for (u64 r : warp.rows(rows)) {
        const T* row = in + r * width;
        float* to = out + r * width;
        float most = __uint_as_float(0xff800000), sum = 0.0f;
        warp.each(row, width, [&](u64, float value) { most = fmaxf(most, value); });
        most = warp.reduce(most, [](float a, float b) { return fmaxf(a, b); });
        warp.each(row, width, [&](u64 i, float value) { sum += to[i] = expf(value - most); });
        sum = warp.reduce(sum, [](float a, float b) { return a + b; });
        // The same way through the row again: each lane reads what it wrote.
        warp.each(row, width, [&](u64 i, float) { to[i] /= sum; });
    }
}

extern "C" __global__ void softmax_f32(const float* in, float* out, u32 rows, u32 width) {
    softmax(in, out, rows, width);
}

extern "C" __global__ void softmax_f16(const f16* in, float* out, u32 rows, u32 width) {
    softmax(in, out, rows, width);
}

extern "C" __global__ void softmax_bf16(const bf16* in, float* out, u32 rows, u32 width) {
    softmax(in, out, rows, width);
}
