/* A disk that answers later: loaded into the measured server by LD_PRELOAD, it lets every fdatasync of the WAL take so
 * many microseconds longer as SLOW_DISK_US says. Cloud volumes take about a millisecond; a local disk here takes a
 * sixteenth of that, and hides what waits for it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static struct timespec added(void)
{
    const char *text = getenv("SLOW_DISK_US");
    long us = text ? atol(text) : 0;
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    return time;
}

int fdatasync(int file)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    int result = real(file);
    int error = errno;
    struct timespec left = added();
    /* Signals (latches, timeouts) end a sleep early. */
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
    errno = error;
    return result;
}
