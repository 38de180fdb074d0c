// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CBenchFloor.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

int benchfloor_connect(uint16_t port, uint32_t source, int receive_bytes) {
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    // The port is chosen at connect, where another connection's may be shared: two addresses of one
    // machine have all ports to themselves only so.
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (receive_bytes > 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    }
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (void *)&from, sizeof from) || connect(fd, (void *)&to, sizeof to)) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

struct benchfloor_decoder {
    int coding;
    z_stream inflater;
    ZSTD_DStream *unzstd;
};

struct benchfloor_decoder *benchfloor_decoder_new(int coding) {
    struct benchfloor_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) return NULL;
    decoder->coding = coding;
    if (coding == BENCHFLOOR_GZIP) {
        if (inflateInit2(&decoder->inflater, 15 + 16) == Z_OK) return decoder;
    } else {
        decoder->unzstd = ZSTD_createDStream();
        if (decoder->unzstd) return decoder;
    }
    free(decoder);
    return NULL;
}

void benchfloor_decoder_free(struct benchfloor_decoder *decoder) {
    if (decoder->coding == BENCHFLOOR_GZIP) {
        inflateEnd(&decoder->inflater);
    } else {
        ZSTD_freeDStream(decoder->unzstd);
    }
    free(decoder);
}

long benchfloor_decode(struct benchfloor_decoder *decoder, const void *coded, size_t length,
                       size_t *used, void *plain, size_t room) {
    if (decoder->coding == BENCHFLOOR_GZIP) {
        z_stream *stream = &decoder->inflater;
        stream->next_in = (void *)coded;
        stream->avail_in = (unsigned)length;
        stream->next_out = plain;
        stream->avail_out = (unsigned)room;
        int status = inflate(stream, Z_SYNC_FLUSH);
        *used = length - stream->avail_in;
        if (status != Z_OK && status != Z_BUF_ERROR) return -1;
        return (long)(room - stream->avail_out);
    }
    ZSTD_inBuffer in = {coded, length, 0};
    ZSTD_outBuffer out = {plain, room, 0};
    size_t status = ZSTD_decompressStream(decoder->unzstd, &out, &in);
    *used = in.pos;
    return ZSTD_isError(status) ? -1 : (long)out.pos;
}
