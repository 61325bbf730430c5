/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit program without a C library, so that no 32-bit one has to be installed: TCP by the i386
 * system calls, which Slim's filter leaves alone.
 *
 *     matrix-i386 own PORT             socket, bind, listen, connect, accept4 within itself
 *     matrix-i386 call PORT            the same by socketcall(), as old programs do
 *     matrix-i386 reach ADDRESS PORT   connects, sends "hello", prints what comes
 *     matrix-i386 wait PORT            "ready"; accepts, reads, sends "hello"
 *
 * Prints one line for each step: "ok", or the error's number.
 */
#define AF_INET     2
#define SOCK_STREAM 1

enum { EXIT = 1, READ = 3, WRITE = 4, SOCKETCALL = 102 };
enum { SOCKET = 359, BIND = 361, CONNECT = 362, LISTEN = 363, ACCEPT4 = 364 };

struct address {
        unsigned short family, port;
        unsigned addr;
        char zero[8];
};

/* Whether socketcall() is used, and its number of each call. */
static int old_way;

static long kernel(long number, long a, long b, long c, long d)
{
        long r;

        __asm__ volatile("int $0x80"
                         : "=a"(r)
                         : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)
                         : "memory");
        return r;
}

static long socket_call(long number, long a, long b, long c)
{
        long arguments[4] = {a, b, c, 0};
        long old = number == SOCKET    ? 1
                   : number == BIND    ? 2
                   : number == CONNECT ? 3
                   : number == LISTEN  ? 4
                                       : 18;

        if (old_way)
                return kernel(SOCKETCALL, old, (long)arguments, 0, 0);
        return kernel(number, a, b, c, 0);
}

static void say(const char *text)
{
        long n = 0;

        while (text[n])
                n++;
        kernel(WRITE, 1, (long)text, n, 0);
}

static long tell(const char *step, long r)
{
        char digits[12] = "ok\n";
        long n = -r, at = sizeof(digits) - 2;

        say(step);
        if (r >= 0) {
                say(" ok\n");
                return r;
        }
        digits[at + 1] = 0;
        digits[at--] = '\n';
        for (; n && at > 0; n /= 10)
                digits[at--] = (char)('0' + n % 10);
        digits[at] = ' ';
        say(digits + at);
        kernel(EXIT, 1, 0, 0, 0);
        return r;
}

static int same(const char *a, const char *b)
{
        while (*a && *a == *b) {
                a++;
                b++;
        }
        return *a == *b;
}

static unsigned number(const char **text)
{
        unsigned n = 0;

        for (; **text >= '0' && **text <= '9'; (*text)++)
                n = n * 10 + (unsigned)(**text - '0');
        return n;
}

static struct address place(const char *host, const char *port)
{
        unsigned p = number(&port);
        struct address a = {AF_INET, (unsigned short)(p << 8 | (p >> 8 & 0xff)), 0, {0}};

        for (int i = 0; host && i < 4; i++) {
                a.addr |= number(&host) << (8 * i);
                if (*host == '.')
                        host++;
        }
        return a;
}

static long make(void)
{
        return tell("socket", socket_call(SOCKET, AF_INET, SOCK_STREAM, 0));
}

static void serve_at(long fd, struct address at)
{
        tell("bind", socket_call(BIND, fd, (long)&at, sizeof(at)));
        tell("listen", socket_call(LISTEN, fd, 8, 0));
}

static void read_hello(long fd)
{
        char buffer[8] = "";
        long n = 0, r;

        while (n < 5) {
                r = kernel(READ, fd, (long)(buffer + n), 5 - n, 0);
                if (r <= 0)
                        tell("read", r ? r : -104);
                n += r;
        }
        buffer[5] = '\n';
        say(buffer);
}

static void run(int argc, char **argv)
{
        long fd, other;
        struct address to;

        if (argc == 4 && same(argv[1], "reach")) {
                to = place(argv[2], argv[3]);
                fd = make();
                tell("connect", socket_call(CONNECT, fd, (long)&to, sizeof(to)));
                tell("write", kernel(WRITE, fd, (long)"hello", 5, 0));
                read_hello(fd);
                return;
        }
        if (argc != 3) {
                say("matrix-i386: own|call|wait PORT, reach ADDRESS PORT\n");
                return;
        }
        old_way = same(argv[1], "call");
        fd = make();
        serve_at(fd, place(0, argv[2]));
        if (same(argv[1], "wait")) {
                say("ready\n");
                other = tell("accept", socket_call(ACCEPT4, fd, 0, 0));
                read_hello(other);
                tell("write", kernel(WRITE, other, (long)"hello", 5, 0));
                return;
        }
        to = place("127.0.0.1", argv[2]);
        other = make();
        tell("connect", socket_call(CONNECT, other, (long)&to, sizeof(to)));
        fd = tell("accept", socket_call(ACCEPT4, fd, 0, 0));
        tell("write", kernel(WRITE, other, (long)"hello", 5, 0));
        read_hello(fd);
}

__attribute__((used)) static void start(long *stack)
{
        run((int)stack[0], (char **)(stack + 1));
        kernel(EXIT, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %esp, %eax\n push %eax\n call start\n");
