/* SPDX-License-Identifier: Apache-2.0 */
#include "installed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int installed_path(const char *name, const char *built, char ret[PATH_MAX])
{
        char self[PATH_MAX], beside[2 * PATH_MAX];
        ssize_t n;

        if (snprintf(ret, PATH_MAX, "%s/%s", SLIM_LIBEXECDIR, name) >= PATH_MAX)
                return -ENAMETOOLONG;
        if (access(ret, R_OK) == 0)
                return 0;
        n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        if (n < 0)
                return -errno;
        self[n] = '\0';
        *strrchr(self, '/') = '\0'; /* the kernel's path is absolute */
        snprintf(beside, sizeof(beside), "%s/%s", self, built);
        return realpath(beside, ret) ? 0 : -errno;
}
