// Writes down what a process does to the files of one folder, in order: what it wrote, and what it flushed.
// The test plays it back up to any moment and leaves out what was not flushed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 1024
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *paths[FDS];
static const char *folder, *log_path;
static int log_fd = -1;

static int ours(const char *path) {
    if (!folder) {
        folder = getenv("POWERCUT_FOLDER");
        log_path = getenv("POWERCUT_LOG");
        if (!folder || !log_path) { folder = "//nowhere"; return 0; }
        log_fd = syscall(SYS_openat, AT_FDCWD, log_path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    }
    size_t n = strlen(folder), len = strlen(path);
    if (strncmp(path, folder, n) != 0 || path[n] != '/') return 0;
    return len < 4 || strcmp(path + len - 4, "-shm") != 0;
}

// kind, length of the path, path, offset, length of the data, data
static void note(char kind, const char *path, uint64_t offset, const void *data, uint64_t len) {
    uint32_t n = strlen(path);
    struct iovec parts[6] = {
        {&kind, 1}, {&n, 4}, {(void *)path, n}, {&offset, 8}, {&len, 8}, {(void *)data, len},
    };
    if (syscall(SYS_writev, log_fd, parts, data ? 6 : 5) < 0) abort();
}

static const char *path_of(int fd) { return fd >= 0 && fd < FDS ? paths[fd] : NULL; }

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < FDS && ours(path)) {
        pthread_mutex_lock(&mutex);
        free(paths[fd]);
        paths[fd] = strdup(path);
        if (flags & O_CREAT) note('O', path, 0, NULL, 0);
        if (flags & O_TRUNC) note('T', path, 0, NULL, 0);
        pthread_mutex_unlock(&mutex);
    }
    return fd;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); va_list args; va_start(args, flags); mode_t mode = va_arg(args, mode_t); va_end(args); \
        return opened(real(path, flags, mode), path, flags); }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int dir, const char *path, int flags, ...) { \
        REAL(name); va_list args; va_start(args, flags); mode_t mode = va_arg(args, mode_t); va_end(args); \
        return opened(real(dir, path, flags, mode), path, flags); }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    REAL(close);
    if (path_of(fd)) {
        pthread_mutex_lock(&mutex);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&mutex);
    }
    return real(fd);
}

ssize_t write(int fd, const void *data, size_t len) {
    REAL(write);
    if (!path_of(fd)) return real(fd, data, len);
    pthread_mutex_lock(&mutex);
    struct stat st;
    int append = fcntl(fd, F_GETFL) & O_APPEND;
    if (append) fstat(fd, &st);
    off_t at = append ? st.st_size : lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, data, len);
    if (done > 0) note('W', paths[fd], at, data, done);
    pthread_mutex_unlock(&mutex);
    return done;
}

#define PWRITE(name, offset_t) \
    ssize_t name(int fd, const void *data, size_t len, offset_t at) { \
        REAL(name); \
        if (!path_of(fd)) return real(fd, data, len, at); \
        pthread_mutex_lock(&mutex); \
        ssize_t done = real(fd, data, len, at); \
        if (done > 0) note('W', paths[fd], at, data, done); \
        pthread_mutex_unlock(&mutex); \
        return done; }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, offset_t) \
    int name(int fd, offset_t len) { \
        REAL(name); \
        if (!path_of(fd)) return real(fd, len); \
        pthread_mutex_lock(&mutex); \
        int done = real(fd, len); \
        if (done == 0) note('T', paths[fd], len, NULL, 0); \
        pthread_mutex_unlock(&mutex); \
        return done; }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

// What is written while a flush is under way is not covered by it.
#define SYNC(name) \
    int name(int fd) { \
        REAL(name); \
        if (!path_of(fd)) return real(fd); \
        pthread_mutex_lock(&mutex); \
        char path[4096]; \
        strncpy(path, paths[fd], sizeof path - 1); path[sizeof path - 1] = 0; \
        static uint64_t count; uint64_t id = (uint64_t)(#name[1]) << 32 | ++count; \
        note('B', path, id, NULL, 0); \
        pthread_mutex_unlock(&mutex); \
        int done = real(fd); \
        pthread_mutex_lock(&mutex); \
        if (done == 0) note('E', path, id, NULL, 0); \
        pthread_mutex_unlock(&mutex); \
        return done; }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    REAL(unlink);
    pthread_mutex_lock(&mutex);
    int done = real(path);
    if (done == 0 && ours(path)) note('U', path, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return done;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    pthread_mutex_lock(&mutex);
    int done = real(from, to);
    if (done == 0 && ours(from)) note('R', from, 0, to, strlen(to));
    pthread_mutex_unlock(&mutex);
    return done;
}
