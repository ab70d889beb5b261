/* What Rust's instrumentation calls and the runtimes of gcc before 13 lack. Compiled with
   -fno-builtin, as these functions must not become calls of themselves. */
#include <string.h>

void *__tsan_memcpy(void *to, const void *from, size_t count) { return memcpy(to, from, count); }
void *__tsan_memmove(void *to, const void *from, size_t count) { return memmove(to, from, count); }
void *__tsan_memset(void *to, int byte, size_t count) { return memset(to, byte, count); }
