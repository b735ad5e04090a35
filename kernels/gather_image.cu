// Images -> normalised planes; padding rows are zeros.
//
// Shapes:    UINT8: [pixels][channels] -> batch [bucket][channels][pixels], (x / 255 - mean[c]) / deviation[c].
//            RAW: f32 [channels][pixels], copied as it is.
// Datatypes: u8 or f32 -> f32.
// Launch:    block 256; grid.x over 4 pixels, grid.y over bucket.
// Reference: the loop in tests/kernels, in the same order of operations and so equal bit for bit.
#include "common.cuh"

extern "C" __global__ void gather_image(const u8* __restrict__ packed, const Row* __restrict__ rows, u32 live,
                                        float* __restrict__ batch, u32 bucket, u32 channels, u32 pixels,
                                        const float* __restrict__ mean, const float* __restrict__ deviation) {
    u64 size = u64(channels) * pixels;
    for (u64 r : along_y(bucket)) {
        float* to = batch + r * size;
        const u8* from = r < live ? packed + rows[r].offset : nullptr;
        if (!from || rows[r].encoding == RAW) {
            copy(reinterpret_cast<u8*>(to), from, size * sizeof(float));
            continue;
        }
        // A thread's pixels are in the cache from the first channel on.
        for (u32 c = 0; c < channels; c++) {
            float middle = mean[c], spread = deviation[c];
            fill(to + u64(c) * pixels, pixels,
                 [=](u64 i) { return (from[i * channels + c] / 255.0f - middle) / spread; });
        }
    }
}
