// Rows of length 1, as embeddings are compared. A row of zeros stays zeros.
//
// Shapes:    in [rows][width] -> out [rows][width].
// Datatypes: f32, f16, bf16 -> f32; the sum of squares is f32, so that values beyond 1e19 are not for it.
// Launch:    block 256, one warp a row: grid.x over rows / 8.
// Reference: the loop in tests/kernels, but for the order of its sum.
#include "common.cuh"

template <typename T>
__device__ inline void l2_normalize(const T* in, float* out, u32 rows, u64 width) {
    Warp warp;
    for (u64 r : warp.rows(rows)) {
        const T* row = in + r * width;
        float* to = out + r * width;
        float sum = 0.0f;
        warp.each(row, width, [&](u64, float value) { sum = __fmaf_rn(value, value, sum); });
        float length = sqrtf(warp.reduce(sum, [](float a, float b) { return a + b; }));
        warp.each(row, width, [&](u64 i, float value) { to[i] = length == 0.0f ? 0.0f : value / length; });
    }
}

extern "C" __global__ void l2_normalize_f32(const float* in, float* out, u32 rows, u32 width) {
    l2_normalize(in, out, rows, width);
}

extern "C" __global__ void l2_normalize_f16(const f16* in, float* out, u32 rows, u32 width) {
    l2_normalize(in, out, rows, width);
}

extern "C" __global__ void l2_normalize_bf16(const bf16* in, float* out, u32 rows, u32 width) {
    l2_normalize(in, out, rows, width);
}
