// Rows of samples, each in an encoding of its own -> a batch of f32, scaled; padding rows are zeros.
//
// Shapes:    row [outer][inner], its blocks `stride` bytes apart, at any address -> batch [outer][bucket][inner].
// Datatypes: `Encoding` -> f32. All but RAW: value = fma(value, scale, offset), unless that changes nothing.
// Launch:    block 256; grid.x over 4 elements of a block, grid.y over bucket, grid.z over outer.
// Reference: `Encoding::decode` in src/signal/encoding.rs, equal bit for bit.
#include "common.cuh"

struct Scale {
    float factor, offset;

    __device__ float operator()(float value) const {
        return factor != 1.0f || offset != 0.0f ? __fmaf_rn(value, factor, offset) : value;
    }
};

// What 1.0 is on the scale of 16-bit samples. To multiply by its inverse is exact.
constexpr float SAMPLE = 1.0f / 32768.0f;

__device__ inline float decode_f32le(u32 bits) {
    bool finite = (bits & 0x7f800000) != 0x7f800000;
    return finite ? __uint_as_float(bits) : 0.0f;
}

__device__ inline float decode_s16le(u16 bits) { return float(i16(bits)) * SAMPLE; }

__device__ inline float decode_s16be(u16 bits) { return decode_s16le(u16(bits << 8 | bits >> 8)); }

// G.711's codes: a sign, three bits of exponent and four of mantissa. On the wire, mu-law inverts every bit and
// A-law every other one.
__device__ inline float decode_mulaw(u8 wire) {
    u32 code = wire ^ 0xff;
    i32 level = i32((((code & 15) << 3) + 0x84) << (code >> 4 & 7)) - 0x84;
    return float(code & 0x80 ? -level : level) * SAMPLE;
}

__device__ inline float decode_alaw(u8 wire) {
    u32 code = wire ^ 0x55, exponent = code >> 4 & 7, step = (code & 15) << 4;
    i32 level = i32(exponent == 0 ? step + 8 : (step + 0x108) << (exponent - 1));
    return float(code & 0x80 ? level : -level) * SAMPLE;
}

// A block of numbers whose samples stand in `Bits`, four a thread where both sides' addresses allow it.
template <typename Bits, typename Decode>
__device__ inline void convert(float* to, const u8* from, u64 count, Scale scale, Decode decode) {
    using Four = Pack<Bits, 4>;
    u64 done = 0;
    if (holds<Pack<float>>(to) && holds<Four>(from)) {
        for (u64 i : along_x(count / 4)) {
            Four samples = reinterpret_cast<const Four*>(from)[i];
            Pack<float> numbers;
            for (u32 j = 0; j < 4; j++) numbers.at[j] = scale(decode(samples.at[j]));
            reinterpret_cast<Pack<float>*>(to)[i] = numbers;
        }
        done = count / 4 * 4;
    }
    for (u64 i : along_x(count - done)) {
        to[done + i] = scale(decode(load<Bits>(from + (done + i) * sizeof(Bits))));
    }
}

extern "C" __global__ void gather_f32(const u8* __restrict__ packed, const Row* __restrict__ rows, u32 live,
                                      float* __restrict__ batch, u32 outer, u32 bucket, u64 inner, float scale,
                                      float offset) {
    Scale scaled = {scale, offset};
    for (u64 o : along_z(outer)) {
        for (u64 r : along_y(bucket)) {
            float* to = batch + (o * bucket + r) * inner;
            if (r >= live) {
                copy(reinterpret_cast<u8*>(to), nullptr, inner * sizeof(float));
                continue;
            }
            const u8* from = packed + rows[r].offset + o * rows[r].stride;
            switch (rows[r].encoding) {
            case RAW: copy(reinterpret_cast<u8*>(to), from, inner * sizeof(float)); break;
            case F32LE: convert<u32>(to, from, inner, scaled, decode_f32le); break;
            case PCM_S16LE: convert<u16>(to, from, inner, scaled, decode_s16le); break;
            case PCM_S16BE: convert<u16>(to, from, inner, scaled, decode_s16be); break;
            case UINT8: convert<u8>(to, from, inner, scaled, [](u8 bits) { return float(bits); }); break;
            case MULAW: convert<u8>(to, from, inner, scaled, decode_mulaw); break;
            case ALAW: convert<u8>(to, from, inner, scaled, decode_alaw); break;
            case F16: convert<u16>(to, from, inner, scaled, [](u16 bits) { return number(f16{bits}); }); break;
            case BF16: convert<u16>(to, from, inner, scaled, [](u16 bits) { return number(bf16{bits}); }); break;
            }
        }
    }
}
