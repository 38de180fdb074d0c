#pragma once
#include <zlib.h>

// deflateInit2 is a macro, which Swift does not import. `window_bits` below zero is raw deflate.
static inline int czlib_deflate_init(z_stream *stream, int level, int window_bits) {
    return deflateInit2(stream, level, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
}
// As above, with less memory than zlib's own choice: `memory_level` is 1 to 9.
static inline int czlib_deflate_init_small(
    z_stream *stream, int level, int window_bits, int memory_level) {
    return deflateInit2(
        stream, level, Z_DEFLATED, window_bits, memory_level, Z_DEFAULT_STRATEGY);
}
static inline int czlib_inflate_init(z_stream *stream, int window_bits) {
    return inflateInit2(stream, window_bits);
}
