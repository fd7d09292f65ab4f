/* A wall clock that is off by as many seconds as the file named by CLOCK_SHIM_FILE says: loaded
 * before the C library, into a daemon under test. All other clocks are the kernel's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now) {
  int result = (int)syscall(SYS_clock_gettime, id, now);
  const char *path = getenv("CLOCK_SHIM_FILE");
  if (result != 0 || id != CLOCK_REALTIME || path == NULL) return result;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return result;
  char text[32] = {0};
  if (0 < read(file, text, sizeof text - 1)) now->tv_sec += atol(text);
  close(file);
  return result;
}
