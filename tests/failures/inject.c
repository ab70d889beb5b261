/* System calls that fail when a test says so; put into a Python by LD_PRELOAD.
 *
 * Each function below stands before the C library's of the same name. It belongs to a class, and
 * inject_arm() says of which class, for which kind of descriptor, the how-manieth call fails, and
 * with which error, or moves less than it could. Until then, and for descriptors that the test has
 * exempted (the other end of a connection), every call goes through.
 *
 * What fails is not done, with three exceptions, which are as Linux has them: close() always
 * closes, an interrupted connect() goes on, and a wait that fails takes no events.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#undef open
#undef open64
#undef openat
#undef openat64
#undef fopen
#undef fopen64
#undef fcntl
#undef fcntl64

/* The classes. injecting.py has the same list, in the same order. */
enum {
    RECV, SEND, READ, WRITE, WAKE, ACCEPT, CONNECT, SOCKET, NOTIFIER, GETSOCKOPT, SETSOCKOPT,
    SHUTDOWN, GETSOCKNAME, GETPEERNAME, CLOSE, EPOLL_CREATE, EPOLL_ADD, EPOLL_MOD, EPOLL_DEL, EPOLL_WAIT, PIDFD, WAIT,
    FSTAT, FLAGS, READABLE, FORK, THREAD, SENDFILE, PIPE, OPEN, BIND, LISTEN, SIGNAL, MANY, PRECISE,
    ACCEPT4, EVENTFD, CLASSES
};

/* Instead of an error: move a byte, a half, one datagram; or see the end. */
enum { SHORT = -1, HALF = -2, END = -3 };

#define TABLE 65536
static unsigned char exempted[TABLE]; /* the other end of a connection */
static unsigned char waker[TABLE];    /* what asyncio's loop wakes itself with */

static atomic_int armed_class = -1;
static atomic_int armed_second = -1;
static atomic_int armed_nth, armed_error, armed_times;
static atomic_int calls[CLASSES], fired;
static atomic_int counting;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int exempt(int fd) { return fd >= 0 && fd < TABLE && exempted[fd]; }

/* What should happen to this call: 0 nothing, an error, or one of the negatives. */
static int verdict(int class, int fd)
{
    if (!counting || exempt(fd)) return 0;
    atomic_fetch_add(&calls[class], 1);
    if (class != armed_class && class != armed_second) return 0;
    int left = atomic_fetch_sub(&armed_nth, 1);
    if (left > 1 || left <= 1 - armed_times) return 0;
    atomic_fetch_add(&fired, 1);
    return armed_error;
}

#define FAIL_IF(class, fd) \
    do { \
        int verdict_ = verdict(class, fd); \
        if (verdict_ > 0) { errno = verdict_; return -1; } \
    } while (0)

static mode_t kind(int fd)
{
    struct stat status;
    if (syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH) < 0) return 0;
    return status.st_mode & S_IFMT;
}

/* Which class reading from, or writing to, a descriptor belongs to; -1 for files. */
static int moves(int fd, int socket_class, int other_class)
{
    if (!counting) return -1;
    if (fd >= 0 && fd < TABLE && waker[fd]) return WAKE;
    switch (kind(fd)) {
    case S_IFSOCK: return socket_class;
    case S_IFIFO: case S_IFCHR: return other_class;
    case 0: return WAKE; /* an eventfd */
    default: return -1;
    }
}

static size_t less(size_t size, int how)
{
    if (how == SHORT) return size < 1 ? size : 1;
    if (how == HALF) return (size + 1) / 2;
    return size;
}

/* Moving bytes by a call with one buffer. */
#define MOVE(class, fd, size, call) \
    do { \
        int class_ = class; \
        int verdict_ = class_ < 0 ? 0 : verdict(class_, fd); \
        if (verdict_ > 0) { errno = verdict_; return -1; } \
        if (verdict_ == END) return 0; \
        size = less(size, verdict_); \
        return call; \
    } while (0)

ssize_t read(int fd, void *buffer, size_t size)
{
    REAL(read);
    MOVE(moves(fd, RECV, READ), fd, size, real(fd, buffer, size));
}

ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room) { return read(fd, buffer, size); }

ssize_t write(int fd, const void *buffer, size_t size)
{
    REAL(write);
    MOVE(moves(fd, SEND, WRITE), fd, size, real(fd, buffer, size));
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    REAL(recv);
    MOVE(moves(fd, RECV, READ), fd, size, real(fd, buffer, size, flags));
}

ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags)
{
    return recv(fd, buffer, size, flags);
}

static int is_datagram(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
}

ssize_t recvfrom(int fd, void *restrict buffer, size_t size, int flags,
                 struct sockaddr *restrict from, socklen_t *restrict length)
{
    REAL(recvfrom);
    int how = verdict(RECV, fd);
    if (how > 0) { errno = how; return -1; }
    if (!is_datagram(fd)) {
        if (how == END) return 0;
        size = less(size, how);
    }
    return real(fd, buffer, size, flags, from, length);
}

ssize_t __recvfrom_chk(int fd, void *restrict buffer, size_t size, size_t room, int flags,
                       struct sockaddr *restrict from, socklen_t *restrict length)
{
    return recvfrom(fd, buffer, size, flags, from, length);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    REAL(recvmsg);
    FAIL_IF(RECV, fd);
    return real(fd, message, flags);
}

ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    REAL(send);
    int how = moves(fd, SEND, WRITE);
    how = how < 0 ? 0 : verdict(how, fd);
    if (how > 0) { errno = how; return -1; }
    return real(fd, buffer, is_datagram(fd) ? size : less(size, how), flags);
}

ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to,
               socklen_t length)
{
    REAL(sendto);
    int how = verdict(SEND, fd);
    if (how > 0) { errno = how; return -1; }
    return real(fd, buffer, is_datagram(fd) ? size : less(size, how), flags, to, length);
}

/* The first buffer that is not empty, or a part of it. */
static int cut(const struct iovec *pieces, size_t count, int how, struct iovec *one)
{
    for (size_t index = 0; index < count; index++) {
        if (!pieces[index].iov_len) continue;
        *one = pieces[index];
        one->iov_len = less(one->iov_len, how);
        return 1;
    }
    return 0;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    int how = verdict(SEND, fd);
    if (how > 0) { errno = how; return -1; }
    struct msghdr other = *message;
    struct iovec one;
    if (how && !is_datagram(fd) && cut(message->msg_iov, message->msg_iovlen, how, &one)) {
        other.msg_iov = &one;
        other.msg_iovlen = 1;
    }
    return real(fd, &other, flags);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    REAL(writev);
    int how = moves(fd, SEND, WRITE);
    how = how < 0 ? 0 : verdict(how, fd);
    if (how > 0) { errno = how; return -1; }
    struct iovec one;
    if (how && cut(pieces, count, how, &one)) return real(fd, &one, 1);
    return real(fd, pieces, count);
}

ssize_t readv(int fd, const struct iovec *pieces, int count)
{
    REAL(readv);
    int how = moves(fd, RECV, READ);
    how = how < 0 ? 0 : verdict(how, fd);
    if (how > 0) { errno = how; return -1; }
    if (how == END) return 0;
    struct iovec one;
    if (how && cut(pieces, count, how, &one)) return real(fd, &one, 1);
    return real(fd, pieces, count);
}

/* Several datagrams at a time: also a class of its own, since old systems lack the call. */
int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    REAL(recvmmsg);
    FAIL_IF(MANY, fd);
    int how = verdict(RECV, fd);
    if (how > 0) { errno = how; return -1; }
    return real(fd, messages, how ? 1 : count, flags, timeout);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    REAL(sendmmsg);
    FAIL_IF(MANY, fd);
    int how = verdict(SEND, fd);
    if (how > 0) { errno = how; return -1; }
    return real(fd, messages, how ? 1 : count, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
    REAL(sendfile);
    MOVE(SENDFILE, out, count, real(out, in, offset, count));
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
    REAL(sendfile64);
    MOVE(SENDFILE, out, count, real(out, in, offset, count));
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict size)
{
    REAL(accept);
    FAIL_IF(ACCEPT, fd);
    return real(fd, address, size);
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict size, int flags)
{
    REAL(accept4);
    FAIL_IF(ACCEPT4, fd);
    FAIL_IF(ACCEPT, fd);
    return real(fd, address, size, flags);
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    REAL(connect);
    int how = verdict(CONNECT, fd);
    if (how == EINTR) real(fd, address, size);
    if (how > 0) { errno = how; return -1; }
    return real(fd, address, size);
}

int socket(int domain, int type, int protocol)
{
    REAL(socket);
    FAIL_IF(SOCKET, -1);
    return real(domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    REAL(socketpair);
    FAIL_IF(NOTIFIER, -1);
    return real(domain, type, protocol, pair);
}

int eventfd(unsigned count, int flags)
{
    REAL(eventfd);
    FAIL_IF(EVENTFD, -1);
    FAIL_IF(NOTIFIER, -1);
    return real(count, flags);
}

int pipe(int pair[2])
{
    REAL(pipe);
    FAIL_IF(PIPE, -1);
    return real(pair);
}

int pipe2(int pair[2], int flags)
{
    REAL(pipe2);
    FAIL_IF(PIPE, -1);
    return real(pair, flags);
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict size)
{
    REAL(getsockopt);
    /* CPython asks every new socket for its kind; only what a loop asks for counts */
    if (!(level == SOL_SOCKET && (name == SO_TYPE || name == SO_DOMAIN || name == SO_PROTOCOL)))
        FAIL_IF(GETSOCKOPT, fd);
    return real(fd, level, name, value, size);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    REAL(setsockopt);
    FAIL_IF(SETSOCKOPT, fd);
    return real(fd, level, name, value, size);
}

int shutdown(int fd, int how)
{
    REAL(shutdown);
    FAIL_IF(SHUTDOWN, fd);
    return real(fd, how);
}

int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict size)
{
    REAL(getsockname);
    FAIL_IF(GETSOCKNAME, fd);
    return real(fd, address, size);
}

int getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict size)
{
    REAL(getpeername);
    FAIL_IF(GETPEERNAME, fd);
    return real(fd, address, size);
}

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    REAL(bind);
    FAIL_IF(BIND, fd);
    return real(fd, address, size);
}

int listen(int fd, int backlog)
{
    REAL(listen);
    FAIL_IF(LISTEN, fd);
    return real(fd, backlog);
}

int close(int fd)
{
    REAL(close);
    mode_t what = counting ? kind(fd) : S_IFREG;
    int how = what == S_IFREG || what == S_IFDIR ? 0 : verdict(CLOSE, fd);
    if (fd >= 0 && fd < TABLE) exempted[fd] = waker[fd] = 0;
    int result = real(fd);
    if (how > 0) { errno = how; return -1; }
    return result;
}

int epoll_create1(int flags)
{
    REAL(epoll_create1);
    FAIL_IF(EPOLL_CREATE, -1);
    return real(flags);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    FAIL_IF(operation == EPOLL_CTL_ADD ? EPOLL_ADD : operation == EPOLL_CTL_MOD ? EPOLL_MOD : EPOLL_DEL, fd);
    return real(epoll, operation, fd, event);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    REAL(epoll_wait);
    FAIL_IF(EPOLL_WAIT, epoll);
    return real(epoll, events, most, timeout);
}

int poll(struct pollfd *requests, nfds_t count, int timeout)
{
    REAL(poll);
    FAIL_IF(EPOLL_WAIT, -1);
    return real(requests, count, timeout);
}

int __poll_chk(struct pollfd *requests, nfds_t count, int timeout, size_t room)
{
    return poll(requests, count, timeout);
}

int ppoll(struct pollfd *requests, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    REAL(ppoll);
    FAIL_IF(EPOLL_WAIT, -1);
    return real(requests, count, timeout, mask);
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long given[6];
    va_list arguments;
    va_start(arguments, number);
    for (int index = 0; index < 6; index++) given[index] = va_arg(arguments, long);
    va_end(arguments);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    switch (number) {
#ifdef SYS_epoll_pwait2
    case SYS_epoll_pwait2:
        FAIL_IF(PRECISE, given[0]);
        FAIL_IF(EPOLL_WAIT, given[0]);
        break;
#endif
#ifdef SYS_pidfd_open
    case SYS_pidfd_open: FAIL_IF(PIDFD, -1); break;
#endif
    }
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    REAL(waitid);
    FAIL_IF(WAIT, -1);
    return real(type, id, info, options);
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    REAL(waitpid);
    FAIL_IF(WAIT, -1);
    return real(pid, status, options);
}

int fstat(int fd, struct stat *status)
{
    if (counting && kind(fd) != S_IFREG && kind(fd) != S_IFDIR) FAIL_IF(FSTAT, fd);
    return syscall(SYS_newfstatat, fd, "", status, AT_EMPTY_PATH);
}

int fstat64(int fd, struct stat64 *status) { return fstat(fd, (struct stat *)status); }

static int control(int fd, int command, long argument)
{
    static int (*real)(int, int, ...);
    if (!real) real = (int (*)(int, int, ...))dlsym(RTLD_NEXT, "fcntl");
    if (command == F_GETFL || command == F_SETFL) FAIL_IF(FLAGS, fd);
    if (command == F_DUPFD_CLOEXEC || command == F_DUPFD) FAIL_IF(OPEN, -1);
    return real(fd, command, argument);
}

int fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return control(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return control(fd, command, argument);
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, ...);
    va_list arguments;
    va_start(arguments, request);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (!real) real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    if (request == FIONREAD) FAIL_IF(READABLE, fd);
    if (request == FIONBIO) FAIL_IF(FLAGS, fd);
    return real(fd, request, argument);
}

pid_t fork(void)
{
    REAL(fork);
    FAIL_IF(FORK, -1);
    return real();
}

/* Shares no memory here, so that it can be left through a function of ours. */
pid_t vfork(void) { return fork(); }

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes,
                   void *(*start)(void *), void *restrict argument)
{
    REAL(pthread_create);
    int how = verdict(THREAD, -1);
    if (how > 0) return how;
    return real(thread, attributes, start, argument);
}

int sigaction(int number, const struct sigaction *restrict new, struct sigaction *restrict old)
{
    REAL(sigaction);
    FAIL_IF(SIGNAL, -1);
    return real(number, new, old);
}

/* Opening a file, with a mode or without. */
#define OPENS(name, head, arguments_before) \
    { \
        static int (*real) head; \
        va_list arguments; \
        va_start(arguments, flags); \
        int mode = va_arg(arguments, int); \
        va_end(arguments); \
        if (!real) real = (int (*) head)dlsym(RTLD_NEXT, #name); \
        FAIL_IF(OPEN, -1); \
        return real arguments_before; \
    }

int open(const char *path, int flags, ...) OPENS(open, (const char *, int, ...), (path, flags, mode))
int open64(const char *path, int flags, ...) OPENS(open64, (const char *, int, ...), (path, flags, mode))
int openat(int at, const char *path, int flags, ...)
    OPENS(openat, (int, const char *, int, ...), (at, path, flags, mode))
int openat64(int at, const char *path, int flags, ...)
    OPENS(openat64, (int, const char *, int, ...), (at, path, flags, mode))

FILE *fopen64(const char *restrict path, const char *restrict mode)
{
    REAL(fopen64);
    int how = verdict(OPEN, -1);
    if (how > 0) { errno = how; return NULL; }
    return real(path, mode);
}

FILE *fopen(const char *restrict path, const char *restrict mode) { return fopen64(path, mode); }

DIR *opendir(const char *path)
{
    REAL(opendir);
    int how = verdict(OPEN, -1);
    if (how > 0) { errno = how; return NULL; }
    return real(path);
}

/* What the tests call. */

int inject_classes(void) { return CLASSES; }
void inject_exempt(int fd) { if (fd >= 0 && fd < TABLE) exempted[fd] = 1; }
void inject_waker(int fd) { if (fd >= 0 && fd < TABLE) waker[fd] = 1; }
int inject_calls(int class) { return calls[class]; }
int inject_fired(void) { return fired; }
void inject_pause(int paused) { counting = !paused; }

/* From now on the nth call of the class, and of the second class if there is one, fails, and the
 * next ones too, as often as `times` says. */
void inject_arm(int class, int second, int nth, int error, int times)
{
    memset(calls, 0, sizeof calls);
    fired = 0;
    armed_class = class;
    armed_second = second;
    armed_nth = nth;
    armed_error = error;
    armed_times = times;
    counting = 1;
}

void inject_disarm(void)
{
    counting = 0;
    armed_class = armed_second = -1;
}

/* A program that knows nothing of this: INJECT="class nth error times". */
__attribute__((constructor)) static void from_environment(void)
{
    int class, nth, error, times;
    const char *text = getenv("INJECT");
    if (text && sscanf(text, "%d %d %d %d", &class, &nth, &error, &times) == 4)
        inject_arm(class, -1, nth, error, times);
}
