/* Stands in for the system's chance in the program `simulate`: each thread gets the same bytes in every run, and so do the
   maps, ids and schedulers that begin with them. */
#include <stddef.h>
#include <sys/types.h>

static _Thread_local unsigned long long state = 0x9e3779b97f4a7c15ULL;

ssize_t getrandom(void *into, size_t size, unsigned int flags) {
  (void)flags;
  for (size_t at = 0; at < size; at++) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    ((unsigned char *)into)[at] = (unsigned char)(state >> 56);
  }
  return (ssize_t)size;
}
