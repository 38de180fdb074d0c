// What the benchmarks compare with: the least that C can do on this machine.
#pragma once
#include <stddef.h>
#include <stdint.h>

// The least an event-stream server can do: one thread, epoll, and for each event and connection
// one send() of bytes that were made once. No publisher, no history, no filters, no resumption.
//
// Listens on 127.0.0.1:`port` and serves until the process ends. Every GET gets the stream, but:
//   GET /pace?start=NS&interval=NS&count=N&batch=B
//     sends `count` batches of `batch` events, each batch in one send(), batch k due at
//     start + k * interval on the monotonic clock; replaces what was under way
//   GET /stats
//     answers {"sent":…,"dropped":…,"streams":…}
// A connection whose socket is full loses events, which are counted as dropped; no broker may.
// Returns an errno where it cannot begin.
int benchfloor_serve(uint16_t port, int event_bytes);

struct benchfloor_consumed {
    int64_t records;
    int64_t bytes;
    int64_t first_ns;  // When the first record was there, on the monotonic clock.
    int64_t last_ns;
};

// Reads `wanted` records of all `partitions` of `topic` from their beginning with nothing around
// librdkafka: its batch call in a loop that adds up lengths. Returns 0, or -1 with a text in
// `error`, which is `error_size` bytes.
int benchfloor_consume(const char *bootstrap, const char *topic, int partitions, int64_t wanted,
                       int limit_ms, struct benchfloor_consumed *result, char *error,
                       size_t error_size);

// Connects to 127.0.0.1:`port` from the loopback address `source`, in host order, and returns a
// descriptor that blocks; -errno where that fails. `receive_bytes` is SO_RCVBUF, 0 the system's.
int benchfloor_connect(uint16_t port, uint32_t source, int receive_bytes);

enum { BENCHFLOOR_GZIP = 1, BENCHFLOOR_ZSTD = 2 };

// Decodes one stream under a content coding, piece by piece.
struct benchfloor_decoder;
struct benchfloor_decoder *benchfloor_decoder_new(int coding);
void benchfloor_decoder_free(struct benchfloor_decoder *decoder);
// Decodes as much of `coded` as `plain` has room for. Returns how many bytes came out and sets
// *used to how many went in; -1 where they are not of the coding.
long benchfloor_decode(struct benchfloor_decoder *decoder, const void *coded, size_t length,
                       size_t *used, void *plain, size_t room);
