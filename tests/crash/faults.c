/* Counts, fails, kills at, or records the changes that one process makes to files below a folder.
 *
 * Loaded with LD_PRELOAD; driven from Python through ctypes. A change is one call of write, pwrite,
 * fsync, fdatasync, ftruncate, open with O_CREAT, mkdir, rename, link, unlink or rmdir. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* KILL_NAME counts only changes to names: open with O_CREAT, mkdir, rename, link, unlink, rmdir. */
enum kind { COUNT, FAIL_ONCE, FAIL_ON, KILL, KILL_TORN, RECORD, KILL_NAME };
enum change { WRITE = 1, SYNC = 2, TRUNCATE = 3, OTHER = 4, MARK = 5 };

static char folder[PATH_MAX];
static size_t folder_length;
static enum kind kind;
static int error_number;
static long nth;
static atomic_long seen;
static int struck;
static int trace = -1;
static atomic_flag tracing = ATOMIC_FLAG_INIT;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_mkdirat)(int, const char *, mode_t);
static int (*real_renameat)(int, const char *, int, const char *);
static int (*real_linkat)(int, const char *, int, const char *, int);
static int (*real_unlinkat)(int, const char *, int);

__attribute__((constructor)) static void find_real(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_mkdirat = dlsym(RTLD_NEXT, "mkdirat");
    real_renameat = dlsym(RTLD_NEXT, "renameat");
    real_linkat = dlsym(RTLD_NEXT, "linkat");
    real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
}

/* ── what Python calls ─────────────────────────────────────────────────────────────────────── */

void faults_arm(const char *below, int what, long at, int error, const char *trace_path) {
    folder_length = 0;
    strncpy(folder, below, sizeof folder - 1);
    kind = what;
    nth = at;
    error_number = error;
    atomic_store(&seen, 0);
    if (*trace_path) trace = real_openat(AT_FDCWD, trace_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    folder_length = strlen(folder);
}

void faults_disarm(void) { folder_length = 0; }

long faults_seen(void) { return atomic_load(&seen); }

/* The kind of change that failed last. */
int faults_struck(void) { return struck; }

/* ── what is below the folder ──────────────────────────────────────────────────────────────── */

static int is_below(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length) &&
           (path[folder_length] == '/' || !path[folder_length]);
}

static int path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int watches(int descriptor, char *path) {
    return folder_length && path_of(descriptor, path) && is_below(path);
}

static int watches_name(int directory, const char *name, char *path) {
    if (!folder_length) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else if (directory == AT_FDCWD) {
        if (!getcwd(path, PATH_MAX)) return 0;
        strncat(path, "/", PATH_MAX - strlen(path) - 1);
        strncat(path, name, PATH_MAX - strlen(path) - 1);
    } else {
        if (!path_of(directory, path)) return 0;
        strncat(path, "/", PATH_MAX - strlen(path) - 1);
        strncat(path, name, PATH_MAX - strlen(path) - 1);
    }
    return is_below(path);
}

/* ── what happens to a change ──────────────────────────────────────────────────────────────── */

static void record(int change, const char *path, int64_t offset, const void *data, int64_t length) {
    if (kind != RECORD || trace < 0) return;
    int64_t head[4] = {change, (int64_t)strlen(path), offset, length};
    while (atomic_flag_test_and_set(&tracing)) {
    }
    if (real_write(trace, head, sizeof head) < 0 || real_write(trace, path, head[1]) < 0 ||
        (data && real_write(trace, data, length) < 0))
        _exit(99);
    atomic_flag_clear(&tracing);
}

void faults_mark(long number) { record(MARK, "", number, NULL, 0); }

/* Returns whether the call is to fail, with errno set. Does not return from a kill. */
static int strikes(enum change change) {
    if (kind == KILL_NAME && change != OTHER) return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    int hit = kind == FAIL_ON ? number >= nth : number == nth;
    if (!hit || kind == COUNT || kind == RECORD || kind == KILL_TORN) return 0;
    if (kind == KILL || kind == KILL_NAME) kill(getpid(), SIGKILL);
    struck = change;
    errno = error_number;
    return 1;
}

static int tears(void) { return kind == KILL_TORN && atomic_load(&seen) == nth; }

ssize_t write(int descriptor, const void *data, size_t length) {
    char path[PATH_MAX];
    if (!watches(descriptor, path)) return real_write(descriptor, data, length);
    if (strikes(WRITE)) return -1;
    if (tears()) {
        if (real_write(descriptor, data, length / 2) >= 0) kill(getpid(), SIGKILL);
    }
    int64_t offset = lseek(descriptor, 0, SEEK_CUR);
    ssize_t done = real_write(descriptor, data, length);
    if (done > 0) record(WRITE, path, offset, data, done);
    return done;
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off_t offset) {
    char path[PATH_MAX];
    if (!watches(descriptor, path)) return real_pwrite(descriptor, data, length, offset);
    if (strikes(WRITE)) return -1;
    if (tears()) {
        if (real_pwrite(descriptor, data, length / 2, offset) >= 0) kill(getpid(), SIGKILL);
    }
    ssize_t done = real_pwrite(descriptor, data, length, offset);
    if (done > 0) record(WRITE, path, offset, data, done);
    return done;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) {
    return pwrite64(descriptor, data, length, offset);
}

static int sync_with(int (*real)(int), int descriptor) {
    char path[PATH_MAX];
    if (!watches(descriptor, path)) return real(descriptor);
    if (strikes(SYNC)) return -1;
    if (tears()) kill(getpid(), SIGKILL);
    int result = kind == RECORD ? 0 : real(descriptor);
    if (!result) record(SYNC, path, 0, NULL, 0);
    return result;
}

int fsync(int descriptor) { return sync_with(real_fsync, descriptor); }
int fdatasync(int descriptor) { return sync_with(real_fdatasync, descriptor); }

int ftruncate64(int descriptor, off_t length) {
    char path[PATH_MAX];
    if (!watches(descriptor, path)) return real_ftruncate(descriptor, length);
    if (strikes(TRUNCATE)) return -1;
    if (tears()) kill(getpid(), SIGKILL);
    int result = real_ftruncate(descriptor, length);
    if (!result) record(TRUNCATE, path, length, NULL, 0);
    return result;
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

/* ── changes to names ──────────────────────────────────────────────────────────────────────── */

#define NAME_CHANGE(directory, name, call)                              \
    do {                                                                \
        char path[PATH_MAX];                                            \
        if (watches_name(directory, name, path)) {                      \
            if (strikes(OTHER)) return -1;                              \
            if (tears()) kill(getpid(), SIGKILL);                       \
            record(OTHER, path, 0, NULL, 0);                            \
        }                                                               \
        return call;                                                    \
    } while (0)

static int open_with(int directory, const char *name, int flags, mode_t mode) {
    if (!(flags & O_CREAT) || !faccessat(directory, name, F_OK, 0))
        return real_openat(directory, name, flags, mode);
    NAME_CHANGE(directory, name, real_openat(directory, name, flags, mode));
}

#define MODE_ARGUMENT                                    \
    mode_t mode = 0;                                     \
    if (flags & (O_CREAT | O_TMPFILE)) {                 \
        va_list arguments;                               \
        va_start(arguments, flags);                      \
        mode = va_arg(arguments, mode_t);                \
        va_end(arguments);                               \
    }

int open(const char *name, int flags, ...) {
    MODE_ARGUMENT
    return open_with(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    MODE_ARGUMENT
    return open_with(AT_FDCWD, name, flags, mode);
}

int openat(int directory, const char *name, int flags, ...) {
    MODE_ARGUMENT
    return open_with(directory, name, flags, mode);
}

int openat64(int directory, const char *name, int flags, ...) {
    MODE_ARGUMENT
    return open_with(directory, name, flags, mode);
}

int mkdirat(int directory, const char *name, mode_t mode) {
    NAME_CHANGE(directory, name, real_mkdirat(directory, name, mode));
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    NAME_CHANGE(to_directory, to, real_renameat(from_directory, from, to_directory, to));
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    NAME_CHANGE(to_directory, to, real_linkat(from_directory, from, to_directory, to, flags));
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int directory, const char *name, int flags) {
    NAME_CHANGE(directory, name, real_unlinkat(directory, name, flags));
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
