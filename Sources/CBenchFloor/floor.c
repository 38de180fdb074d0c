// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CBenchFloor.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENT_BYTES_MAX = 65536, BATCH_MAX = 4096, EVENTS_PER_WAIT = 512 };

// A connection by its descriptor. `rest` is what a full socket left of a message it had begun.
struct stream {
    int place;  // In `live`, or -1.
    char *rest;
    size_t rest_length;
};

static struct stream *streams;
static int *live, live_count;
static int rest_count;  // Streams that have a `rest`.
static uint64_t sent, dropped;
static int epoll_fd;

// The schedule under way.
static uint64_t start_ns, interval_ns, batch_count, next_batch, sequence;
static int batch = 1;

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void drop_rest(struct stream *stream) {
    if (!stream->rest) return;
    free(stream->rest);
    stream->rest = NULL;
    rest_count--;
}

static void end_stream(int fd) {
    struct stream *stream = &streams[fd];
    if (stream->place >= 0) {
        int last = live[--live_count];
        live[stream->place] = last;
        streams[last].place = stream->place;
        stream->place = -1;
    }
    drop_rest(stream);
    close(fd);
}

static size_t append_event(char *to, uint64_t due, int event_bytes) {
    int head = sprintf(to, "id: 1763683200000-%llu\nevent: message\ndata: ",
                       (unsigned long long)++sequence);
    char *data = to + head;
    int length = sprintf(data, "{\"t_ns\":%llu,\"n\":%llu,\"pad\":\"", (unsigned long long)due,
                         (unsigned long long)sequence);
    while (length < event_bytes - 2) data[length++] = 'x';
    memcpy(data + length, "\"}\n\n", 4);
    return (size_t)head + (size_t)length + 4;
}

// True where the socket can take a new message.
static bool flush_rest(int fd) {
    struct stream *stream = &streams[fd];
    if (!stream->rest) return true;
    ssize_t taken = send(fd, stream->rest, stream->rest_length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken < 0) return false;
    if ((size_t)taken < stream->rest_length) {
        stream->rest_length -= (size_t)taken;
        memmove(stream->rest, stream->rest + taken, stream->rest_length);
        return false;
    }
    drop_rest(stream);
    return true;
}

static void send_to_all(const char *message, size_t length) {
    for (int i = live_count - 1; i >= 0; i--) {
        int fd = live[i];
        if (!flush_rest(fd)) {
            dropped += (uint64_t)batch;
            continue;
        }
        ssize_t taken = send(fd, message, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (taken == (ssize_t)length) {
            sent += (uint64_t)batch;
        } else if (taken >= 0) {
            sent += (uint64_t)batch;
            struct stream *stream = &streams[fd];
            stream->rest_length = length - (size_t)taken;
            stream->rest = malloc(stream->rest_length);
            if (!stream->rest) abort();
            rest_count++;
            memcpy(stream->rest, message + taken, stream->rest_length);
        } else if (errno == EAGAIN) {
            dropped += (uint64_t)batch;
        } else {
            end_stream(fd);
        }
    }
}

static uint64_t number_after(const char *text, const char *name) {
    const char *found = strstr(text, name);
    return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

static void answer(int fd, const char *request) {
    if (!strncmp(request, "GET /pace?", 10)) {
        start_ns = number_after(request, "start=");
        interval_ns = number_after(request, "interval=");
        batch_count = number_after(request, "count=");
        uint64_t wanted = number_after(request, "batch=");
        batch = wanted < 1 ? 1 : wanted > BATCH_MAX ? BATCH_MAX : (int)wanted;
        next_batch = 0;
    } else if (strncmp(request, "GET /stats", 10)) {
        static const char head[] =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
            "Connection: close\r\n\r\n";
        if (send(fd, head, sizeof head - 1, MSG_NOSIGNAL) < 0) return end_stream(fd);
        streams[fd].place = live_count;
        live[live_count++] = fd;
        return;
    }
    char body[128], reply[256];
    int length = snprintf(body, sizeof body, "{\"sent\":%llu,\"dropped\":%llu,\"streams\":%d}\n",
                          (unsigned long long)sent, (unsigned long long)dropped, live_count);
    length = snprintf(reply, sizeof reply,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                      "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
                      length, body);
    (void)!send(fd, reply, (size_t)length, MSG_NOSIGNAL);
    end_stream(fd);
}

static void accept_all(int listener, int fd_limit) {
    for (int i = 0; i < 256; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int one = 1;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (fd >= fd_limit) {
            close(fd);
            continue;
        }
        streams[fd] = (struct stream){.place = -1};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) close(fd);
    }
}

static void serve_ready(int listener, int fd_limit, const struct timespec *wait) {
    static struct epoll_event events[EVENTS_PER_WAIT];
    static char request[65536];
    int count = epoll_pwait2(epoll_fd, events, EVENTS_PER_WAIT, wait, NULL);
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        if (fd == listener) {
            accept_all(listener, fd_limit);
            continue;
        }
        ssize_t length = recv(fd, request, sizeof request - 1, 0);
        if (length < 0 && errno == EAGAIN) continue;
        if (length <= 0) {
            end_stream(fd);
            continue;
        }
        request[length] = 0;
        // A request comes in one piece from our own client; a stream's peer says nothing more.
        if (streams[fd].place < 0) answer(fd, request);
    }
}

static int begin(uint16_t port, int *listener, int *fd_limit) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return errno;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    *fd_limit = limit.rlim_max < 1000000 ? (int)limit.rlim_max : 1000000;
    streams = calloc((size_t)*fd_limit + 1, sizeof *streams);
    live = calloc((size_t)*fd_limit + 1, sizeof *live);
    if (!streams || !live) return ENOMEM;
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*listener < 0) return errno;
    setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(*listener, (void *)&address, sizeof address) || listen(*listener, 4096)) return errno;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = *listener};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, *listener, &event)) return errno;
    return 0;
}

int benchfloor_serve(uint16_t port, int event_bytes) {
    int listener, fd_limit;
    if (event_bytes > EVENT_BYTES_MAX) return EINVAL;
    signal(SIGPIPE, SIG_IGN);
    int error = begin(port, &listener, &fd_limit);
    if (error) return error;
    char *message = malloc((size_t)BATCH_MAX * ((size_t)event_bytes + 160));
    if (!message) return ENOMEM;
    while (true) {
        struct timespec wait = {0, 20000000};
        bool is_under_way = next_batch < batch_count;
        uint64_t due = start_ns + next_batch * interval_ns;
        if (is_under_way) {
            uint64_t now = now_ns();
            wait.tv_nsec = due <= now ? 0 : due - now < 20000000 ? (long)(due - now) : 20000000;
        }
        // A rest is tried again at leisure: a full socket is beyond what the floor measures.
        if (rest_count > 0 && wait.tv_nsec > 1000000) wait.tv_nsec = 1000000;
        serve_ready(listener, fd_limit, &wait);
        for (int i = live_count - 1; i >= 0 && rest_count > 0; i--) flush_rest(live[i]);
        // A request for another pace may have come just now.
        due = start_ns + next_batch * interval_ns;
        if (next_batch >= batch_count || due > now_ns()) continue;
        size_t length = 0;
        for (int i = 0; i < batch; i++) length += append_event(message + length, due, event_bytes);
        next_batch++;
        send_to_all(message, length);
    }
}
