// What Linux offers and Swift's Glibc module does not: headers it leaves out, functions that
// need _GNU_SOURCE, and the few calls that C declares as variadic or as macros.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

// accept4 with SOCK_NONBLOCK | SOCK_CLOEXEC.
int clinux_accept(int listener, struct sockaddr *address, socklen_t *length);
int clinux_set_thread_name(const char *name);
int clinux_thread_id(void);
// Pins the calling thread to one processor. Returns 0 or an errno.
int clinux_set_affinity(int cpu);
// Bytes written to a socket that the peer has not acknowledged, or -1.
int clinux_unsent_bytes(int fd);
// Bytes the C heap holds in use, over all arenas.
size_t clinux_heap_bytes_in_use(void);
void clinux_trim_heap(void);
int clinux_set_nonblocking(int fd);
int clinux_wait_status_exited(int status);
int clinux_wait_status_exit_code(int status);
int clinux_wait_status_signal(int status);
// Asks the kernel to signal this process when its parent dies.
int clinux_die_with_parent(int signal_number);
// Registers `fd` in `epoll` under a 64-bit tag. `operation` is EPOLL_CTL_ADD, _MOD or _DEL.
int clinux_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t tag);
// open(2), which is variadic in C and so not imported.
int clinux_open(const char *path, int flags, int mode);
// Asks the processor to have `lines` cache lines from `address` on at hand soon. A hint: any address
// will do, and nothing waits.
static inline void clinux_prefetch(const void *address, int lines) {
    for (int line = 0; line < lines; line++) __builtin_prefetch((const char *)address + 64 * line);
}
