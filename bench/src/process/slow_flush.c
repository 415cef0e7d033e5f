/* Preloaded: every flush takes a millisecond longer, as on most disks. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait_a_millisecond(void) {
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, 0);
}

int fsync(int file) {
    wait_a_millisecond();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    wait_a_millisecond();
    return (int)syscall(SYS_fdatasync, file);
}
