// The k largest of each row, largest first. Equal values keep their order; NaN comes last.
//
// Shapes:    in [rows][width] -> values, indices [rows][k]; 1 <= k <= width.
// Datatypes: f32, f16, bf16 -> f32, i32.
// Launch:    block 256, one warp a row: grid.x over rows / 8. A warp finds 32 in one way through its row, so that
//            the time grows with width * k / 32: where a client may ask for thousands, let the host find them.
// Reference: `top_k` in src/tensor/reduce.rs.
#include "common.cuh"

template <typename T>
__device__ inline void top_k(const T* __restrict__ in, float* __restrict__ values, i32* __restrict__ indices, u32 rows,
                             u64 width, u64 k) {
    Warp warp;
    for (u64 r : warp.rows(rows)) {
        const T* row = in + r * width;
        u64 before = ~0ull;  // the last key that was written
        for (u64 done = 0; done < k; done += warp.lanes) {
            // The best that come after it, one a lane, the best in lane 0.
            u64 best = 0;
            for (u64 start = 0; start < width; start += warp.lanes) {
                u64 i = start + warp.lane;
                u64 key = i < width ? rank(number(row[i]), i) : 0;
                u64 least = __shfl_sync(warp.mask, best, warp.lanes - 1);
                u32 better = __ballot_sync(warp.mask, key < before && key > least);
                for (; better; better &= better - 1) {
                    u64 next = __shfl_sync(warp.mask, key, __ffs(better) - 1);
                    // It takes its place, and those behind it move up by a lane.
                    u64 neighbour = __shfl_up_sync(warp.mask, best, 1);
                    bool first = warp.lane == 0 || neighbour > next;
                    if (best < next) best = first ? next : neighbour;
                }
            }
            if (done + warp.lane < k) {
                values[r * k + done + warp.lane] = number(row[ranked(best)]);
                indices[r * k + done + warp.lane] = i32(ranked(best));
            }
            before = __shfl_sync(warp.mask, best, warp.lanes - 1);
        }
    }
}

extern "C" __global__ void top_k_f32(const float* in, float* values, i32* indices, u32 rows, u32 width, u32 k) {
    top_k(in, values, indices, rows, width, k);
}

extern "C" __global__ void top_k_f16(const f16* in, float* values, i32* indices, u32 rows, u32 width, u32 k) {
    top_k(in, values, indices, rows, width, k);
}

extern "C" __global__ void top_k_bf16(const bf16* in, float* values, i32* indices, u32 rows, u32 width, u32 k) {
    top_k(in, values, indices, rows, width, k);
}
