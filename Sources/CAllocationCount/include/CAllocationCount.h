// Counts what a program allocates: malloc(3) and its kin, by thread.
//
// A program that links this target calls glibc's allocator through it, Swift's runtime and all
// libraries included, because the dynamic linker prefers a program's own symbols. A call costs one
// addition to a number of its own thread. Absent from debug builds and from those with a sanitizer,
// whose allocator is their own.
#pragma once
#include <stdint.h>

struct allocation_count {
    int32_t thread;  // Its number in /proc/self/task.
    uint64_t calls;  // That took memory: malloc, calloc, realloc to more than nothing, and so on.
};

// 0 where nothing is counted in this build.
int allocation_counts_exist(void);
// Writes the counts of at most `max` threads, those that have ended included, and returns how many.
int allocation_counts(struct allocation_count *counts, int max);
