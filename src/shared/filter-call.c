/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a notification is about. A file of its own: the broker has it and not libseccomp.
 */
#include "filter.h"

#include <linux/audit.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define OTHER_ARCH  AUDIT_ARCH_I386
#define OTHER_IOCTL 54
#define X32_BIT     0x40000000
#define X32_IOCTL   (X32_BIT | 514)
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define OTHER_ARCH  AUDIT_ARCH_ARM
#define OTHER_IOCTL 54
#endif

enum filter_call filter_call(const struct seccomp_data *data)
{
#ifdef OTHER_ARCH
        if (data->arch == OTHER_ARCH)
                return data->nr == OTHER_IOCTL ? FILTER_IOCTL_COMPAT : FILTER_OTHER;
        if (data->arch != NATIVE_ARCH)
                return FILTER_OTHER;
#endif
        switch (data->nr) {
        case __NR_socket:
                return FILTER_SOCKET;
        case __NR_listen:
                return FILTER_LISTEN;
        case __NR_ioctl:
                return FILTER_IOCTL;
#ifdef X32_IOCTL
        case X32_IOCTL:
                return FILTER_IOCTL_COMPAT;
#endif
        default:
                return FILTER_OTHER;
        }
}
