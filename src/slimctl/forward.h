/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Which signals a container's program gets from outside: slimctl hands them to the container's
 * first process, and that one to the program.
 */
#include <signal.h>
#include <stdbool.h>

/*
 * SIGTERM SIGINT SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGWINCH, SIGTSTP and SIGCONT. SIGKILL needs no
 * help: the container dies with slimctl.
 */
void forward_signals(sigset_t *ret);

/*
 * False for what a terminal sent (si_code, as of siginfo or signalfd): it went to the whole
 * foreground process group, and the program is in it. SIGHUP is the exception for the leader of a
 * session, which alone hears that the terminal is gone.
 */
bool forward_wanted(int signal, int si_code, bool session_leader);
