/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many short connections, for test_many.py:
 *
 *   short-connections serve PORT N           "ready", and after N connections: how many came from
 *                                            where the client said, and the descriptors before,
 * after short-connections connect ADDRESS PORT N how many went as they should
 *
 * The client says its own port and the server what accept() told it; the server closes first. So
 * the client's ports are free again at once, as they have to be: an address has 28,232 of them. And
 * the server's host, with 60 s of TIME_WAIT for each, has to take a SYN from a port that it
 * remembers.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what, long i)
{
        fprintf(stderr, "connection %ld: %s: %s\n", i, what, strerror(errno));
        return EXIT_FAILURE;
}

static int descriptors(void)
{
        DIR *d = opendir("/proc/self/fd");
        int n = 0;

        while (d && readdir(d))
                n++;
        if (d)
                closedir(d);
        return n;
}

static int serve(in_port_t port, long n)
{
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
        int l = socket(AF_INET, SOCK_STREAM, 0), before, after;
        in_addr_t client = 0;

        if (l < 0 || bind(l, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(l, 128) < 0)
                return fail("listen", 0);
        puts("ready");
        fflush(stdout);
        before = descriptors();
        for (long i = 0; i < n; i++) {
                struct sockaddr_in peer;
                socklen_t len = sizeof(peer);
                in_port_t said;
                int c = accept(l, (struct sockaddr *)&peer, &len);

                if (c < 0)
                        return fail("accept", i);
                if (i == 0)
                        client = peer.sin_addr.s_addr;
                if (recv(c, &said, sizeof(said), MSG_WAITALL) != sizeof(said))
                        return fail("recv", i);
                errno = 0;
                if (said != peer.sin_port || peer.sin_addr.s_addr != client)
                        return fail("not the client's name", i);
                if (send(c, &peer.sin_port, sizeof(peer.sin_port), 0) != sizeof(peer.sin_port))
                        return fail("send", i);
                close(c);
        }
        after = descriptors();
        here.sin_addr.s_addr = client;
        printf("%ld connections from %s, %d %d descriptors\n", n, inet_ntoa(here.sin_addr), before,
               after);
        return 0;
}

static int connect_all(const char *address, in_port_t port, long n)
{
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};

        there.sin_addr.s_addr = inet_addr(address);
        for (long i = 0; i < n; i++) {
                struct sockaddr_in own;
                socklen_t len = sizeof(own);
                in_port_t seen;
                int s = socket(AF_INET, SOCK_STREAM, 0);

                if (s < 0)
                        return fail("socket", i);
                if (connect(s, (struct sockaddr *)&there, sizeof(there)) < 0)
                        return fail("connect", i);
                if (getsockname(s, (struct sockaddr *)&own, &len) < 0 ||
                    send(s, &own.sin_port, sizeof(own.sin_port), 0) != sizeof(own.sin_port))
                        return fail("send", i);
                if (recv(s, &seen, sizeof(seen), MSG_WAITALL) != sizeof(seen))
                        return fail("recv", i);
                errno = 0;
                if (seen != own.sin_port)
                        return fail("not the name of this end", i);
                if (recv(s, &seen, sizeof(seen), 0) != 0)
                        return fail("no end", i);
                close(s);
        }
        printf("%ld connections\n", n);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc == 4 && strcmp(argv[1], "serve") == 0)
                return serve(atoi(argv[2]), atol(argv[3]));
        if (argc == 5 && strcmp(argv[1], "connect") == 0)
                return connect_all(argv[2], atoi(argv[3]), atol(argv[4]));
        return 2;
}
