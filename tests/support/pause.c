/* The only process of an image: it waits to be ended, and with a number, it writes that many MiB first. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(int count, char **arguments) {
    /* The first process of a container hears only the signals that it asks for. */
    signal(SIGTERM, end);
    signal(SIGINT, end);
    for (int left = count > 1 ? atoi(arguments[1]) : 0; left > 0; left--) {
        char *memory = malloc(1 << 20);
        if (memory == NULL) {
            return 1;
        }
        memset(memory, 1, 1 << 20);
    }
    for (;;) {
        pause();
    }
}
