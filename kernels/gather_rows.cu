// Rows as the model takes them -> a batch tensor joined along any axis; padding rows are zeros.
//
// Shapes:    row [outer][inner_bytes], its blocks `stride` apart -> batch [outer][bucket][inner_bytes].
// Datatypes: any.
// Launch:    block 256; grid.x over 16-byte pieces of a block, grid.y over bucket, grid.z over outer.
// Reference: `Input::put_rows` in src/device/cpu.rs.
#include "common.cuh"

extern "C" __global__ void gather_rows(const u8* __restrict__ packed, const Row* __restrict__ rows, u32 live,
                                       u8* __restrict__ batch, u32 outer, u32 bucket, u64 inner_bytes) {
    for (u64 o : along_z(outer)) {
        for (u64 r : along_y(bucket)) {
            const u8* from = r < live ? packed + rows[r].offset + o * rows[r].stride : nullptr;
            copy(batch + (o * bucket + r) * inner_bytes, from, inner_bytes);
        }
    }
}
