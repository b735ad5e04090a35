// 1 where a value reaches `at`, else 0; NaN reaches nothing.
//
// Shapes:    in [rows][width] -> out [rows][width].
// Datatypes: f32, f16, bf16 -> u8.
// Launch:    block 256; grid.x over 16-byte pieces of the input.
// Reference: the comparison in tests/kernels.
#include "common.cuh"

template <typename T>
__device__ inline void threshold(const T* __restrict__ in, u8* __restrict__ out, u64 count, float at) {
    constexpr u32 EACH = PIECE / sizeof(T);
    using Flags = Pack<u8, EACH>;
    u64 done = 0;
    if (holds<Pack<T>>(in) && holds<Flags>(out)) {
        for (u64 i : along_x(count / EACH)) {
            Pack<T> pack = reinterpret_cast<const Pack<T>*>(in)[i];
            Flags flags;
            for (u32 j = 0; j < EACH; j++) flags.at[j] = number(pack.at[j]) >= at;
            reinterpret_cast<Flags*>(out)[i] = flags;
        }
        done = count / EACH * EACH;
    }
    for (u64 i : along_x(count - done)) out[done + i] = number(in[done + i]) >= at;
}

extern "C" __global__ void threshold_f32(const float* in, u8* out, u32 rows, u32 width, float at) {
    threshold(in, out, u64(rows) * width, at);
}

extern "C" __global__ void threshold_f16(const f16* in, u8* out, u32 rows, u32 width, float at) {
    threshold(in, out, u64(rows) * width, at);
}

extern "C" __global__ void threshold_bf16(const bf16* in, u8* out, u32 rows, u32 width, float at) {
    threshold(in, out, u64(rows) * width, at);
}
