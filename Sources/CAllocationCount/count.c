// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CAllocationCount.h"
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

#if defined(DEBUG) || defined(HAS_SANITIZER)

int allocation_counts_exist(void) { return 0; }
int allocation_counts(struct allocation_count *counts, int max) {
    (void)counts;
    (void)max;
    return 0;
}

#else

enum { THREADS_MAX = 1024 };

struct counter {
    _Atomic uint64_t calls;  // Written by its own thread alone.
    _Atomic int32_t thread;
};

static struct counter counters[THREADS_MAX];
// What threads beyond THREADS_MAX share.
static struct counter others;
static _Atomic int used;
static __thread struct counter *mine;

static void count(void) {
    struct counter *counter = mine;
    if (!counter) {
        int place = atomic_fetch_add(&used, 1);
        counter = place < THREADS_MAX ? &counters[place] : &others;
        atomic_store_explicit(&counter->thread, (int32_t)gettid(), memory_order_relaxed);
        mine = counter;
    }
    if (counter == &others) {
        atomic_fetch_add(&others.calls, 1);
        return;
    }
    uint64_t calls = atomic_load_explicit(&counter->calls, memory_order_relaxed);
    atomic_store_explicit(&counter->calls, calls + 1, memory_order_relaxed);
}

int allocation_counts_exist(void) { return 1; }

int allocation_counts(struct allocation_count *counts, int max) {
    int threads = atomic_load(&used);
    if (threads > THREADS_MAX) threads = THREADS_MAX;
    int written = 0;
    for (int place = 0; place < threads && written < max; place++, written++) {
        counts[written].thread = atomic_load(&counters[place].thread);
        counts[written].calls = atomic_load(&counters[place].calls);
    }
    if (written < max && atomic_load(&others.calls) > 0) {
        counts[written].thread = 0;
        counts[written].calls = atomic_load(&others.calls);
        written++;
    }
    return written;
}

// glibc's own entry points, which it keeps for replacements such as these.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *former, size_t size) {
    if (size > 0) count();
    return __libc_realloc(former, size);
}

void *memalign(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **target, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1))) return EINVAL;
    count();
    void *memory = __libc_memalign(alignment, size);
    if (!memory) return ENOMEM;
    *target = memory;
    return 0;
}

#endif
