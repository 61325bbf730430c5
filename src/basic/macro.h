/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Small macros that the whole project leans on: ownership by scope, sizes, and nothing of Slim.
 */
#include <stddef.h>
#include <stdint.h>

#define _cleanup_(f)   __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_       __attribute__((unused))
#define _noreturn_     __attribute__((noreturn))
#define _warn_unused_  __attribute__((warn_unused_result))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Moves a pointer out of a variable that would free it: return TAKE_PTR(p). */
#define TAKE_PTR(p)                         \
        ({                                  \
                __typeof__(p) *_pp_ = &(p); \
                __typeof__(p) _v_ = *_pp_;  \
                *_pp_ = NULL;               \
                _v_;                        \
        })

/* Defines `name##p`, for use as _cleanup_(name##p), from a function that frees one pointer. */
#define DEFINE_CLEANUP(type, func)          \
        static inline void func##p(type *p) \
        {                                   \
                if (*p)                     \
                        func(*p);           \
        }
