/* SPDX-License-Identifier: Apache-2.0 */
#include "forward.h"

#include "../basic/macro.h"

void forward_signals(sigset_t *ret)
{
        static const int signals[] = {SIGTERM, SIGINT,   SIGHUP,  SIGQUIT, SIGUSR1,
                                      SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT};

        sigemptyset(ret);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                sigaddset(ret, signals[i]);
}

bool forward_wanted(int signal, int si_code, bool session_leader)
{
        if (si_code != SI_KERNEL)
                return true;
        return signal == SIGHUP && session_leader;
}
