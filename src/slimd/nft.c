/* SPDX-License-Identifier: Apache-2.0 */
#include "nft.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../basic/fd.h"
#include "../basic/log.h"

/* Its standard input, output and error; and the signals that slimd blocks or ignores, as usual. */
static int spawn(int in, int out, pid_t *ret)
{
        const char *argv[] = {"nft", "-f", "-", NULL};
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t none, all;
        int r;

        if (posix_spawn_file_actions_init(&files) != 0)
                return -ENOMEM;
        if (posix_spawnattr_init(&attr) != 0) {
                posix_spawn_file_actions_destroy(&files);
                return -ENOMEM;
        }
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setsigdefault(&attr, &all);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
        r = posix_spawnp(ret, "nft", &files, &attr, (char **)(uintptr_t)argv, environ);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&files);
        return -r;
}

int nft_run(const char *commands)
{
        _cleanup_close_ int in = -1, out = -1;
        char said[512];
        int status, r;
        ssize_t n;
        pid_t pid;

        in = memfd_create("nft-commands", MFD_CLOEXEC);
        out = memfd_create("nft-answer", MFD_CLOEXEC);
        if (in < 0 || out < 0)
                return -errno;
        r = write_full(in, commands, strlen(commands));
        if (r < 0)
                return r;
        if (lseek(in, 0, SEEK_SET) < 0)
                return -errno;
        r = spawn(in, out, &pid);
        if (r < 0)
                return r;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        n = pread(out, said, sizeof(said) - 1, 0);
        said[n > 0 ? n : 0] = '\0';
        log_debug("nft: %s", said);
        return -EIO;
}
