/* Calls of code with a canary in everything that must survive it. */
#include "stress.h"
#include <sys/syscall.h>

struct canary {
    uint64_t site, number, first;
    /* rbx rbp r12 r13 r14 rdi rsi rdx r10 r8 r9, flags, rsp before and after. */
    uint64_t found[14];
    uint64_t red[15];
    uint64_t vectors[16][4];
    uint32_t rounding;
};

#define SEED 0x1020304050607080ull
static const uint64_t vectors[16][4] __attribute__((used, aligned(32))) = {
#define ROW(n) {SEED * (n + 1), SEED ^ (n << 8), ~SEED + n, SEED << n}
    ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15)};

/* Carry, parity, adjust, zero, sign, overflow: all set. */
#define FLAGS 0x8d5

long canary(struct canary *);
/* The callee's red zone lies below its return address. Rounding mode: down. */
__asm__(
    ".text\n.globl canary\n.balign 64\ncanary:\n"
    " push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n sub $24,%rsp\n"
    " mov %rdi,%r15\n"
    " mov %rsp,120(%r15)\n"
    " stmxcsr (%rsp)\n mov (%rsp),%eax\n and $~0x6000,%eax\n or $0x2000,%eax\n mov %eax,8(%rsp)\n ldmxcsr 8(%rsp)\n"
    " lea vectors(%rip),%rax\n"
    " vmovdqa 0(%rax),%ymm0\n vmovdqa 32(%rax),%ymm1\n vmovdqa 64(%rax),%ymm2\n vmovdqa 96(%rax),%ymm3\n"
    " vmovdqa 128(%rax),%ymm4\n vmovdqa 160(%rax),%ymm5\n vmovdqa 192(%rax),%ymm6\n vmovdqa 224(%rax),%ymm7\n"
    " vmovdqa 256(%rax),%ymm8\n vmovdqa 288(%rax),%ymm9\n vmovdqa 320(%rax),%ymm10\n vmovdqa 352(%rax),%ymm11\n"
    " vmovdqa 384(%rax),%ymm12\n vmovdqa 416(%rax),%ymm13\n vmovdqa 448(%rax),%ymm14\n vmovdqa 480(%rax),%ymm15\n"
    "  mov $14,%ecx\n1: lea (%rcx,%rcx,2),%rax\n mov %rcx,%rdx\n neg %rdx\n mov %rax,-16(%rsp,%rdx,8)\n dec %ecx\n jnz 1b\n"
    " movq $0x99,8(%rsp)\n"
    " pushq $0x8d5\n popfq\n"
    " movq $0x99,0(%rsp)\n"
    " mov $0xb0b0,%ebx\n mov $0x15151515,%ebp\n mov $0x12121212,%r12d\n mov $0x13131313,%r13d\n mov $0x14141414,%r14d\n"
    " mov 16(%r15),%rdi\n mov $0xee,%esi\n mov $0xcc,%edx\n mov $0x10,%r10d\n mov $0x88,%r8d\n mov $0x99,%r9d\n"
    " mov 8(%r15),%rax\n"
    " call *(%r15)\n"
    " mov %rsp,128(%r15)\n"
    " mov %rbx,24(%r15)\n mov %rbp,32(%r15)\n mov %r12,40(%r15)\n mov %r13,48(%r15)\n mov %r14,56(%r15)\n"
    " mov %rdi,64(%r15)\n mov %rsi,72(%r15)\n mov %rdx,80(%r15)\n mov %r10,88(%r15)\n mov %r8,96(%r15)\n mov %r9,104(%r15)\n"
    " lea -256(%rsp),%rsp\n pushfq\n popq 112(%r15)\n lea 256(%rsp),%rsp\n"
    " mov $14,%ecx\n2: mov %rcx,%rdx\n neg %rdx\n mov -16(%rsp,%rdx,8),%rsi\n mov %rsi,128(%r15,%rcx,8)\n dec %ecx\n jnz 2b\n"
    " lea 256(%r15),%rdx\n"
    " vmovdqu %ymm0,0(%rdx)\n vmovdqu %ymm1,32(%rdx)\n vmovdqu %ymm2,64(%rdx)\n vmovdqu %ymm3,96(%rdx)\n"
    " vmovdqu %ymm4,128(%rdx)\n vmovdqu %ymm5,160(%rdx)\n vmovdqu %ymm6,192(%rdx)\n vmovdqu %ymm7,224(%rdx)\n"
    " vmovdqu %ymm8,256(%rdx)\n vmovdqu %ymm9,288(%rdx)\n vmovdqu %ymm10,320(%rdx)\n vmovdqu %ymm11,352(%rdx)\n"
    " vmovdqu %ymm12,384(%rdx)\n vmovdqu %ymm13,416(%rdx)\n vmovdqu %ymm14,448(%rdx)\n vmovdqu %ymm15,480(%rdx)\n"
    " stmxcsr 512(%rdx)\n"
    " mov %rax,%rbx\n stmxcsr 8(%rsp)\n mov 8(%rsp),%eax\n and $~0x6000,%eax\n mov %eax,8(%rsp)\n ldmxcsr 8(%rsp)\n mov %rbx,%rax\n"
    " cld\n vzeroupper\n"
    " add $24,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

_Static_assert(__builtin_offsetof(struct canary, found) == 24, "the code above");
_Static_assert(__builtin_offsetof(struct canary, red) == 136, "the code above");
_Static_assert(__builtin_offsetof(struct canary, vectors) == 256, "the code above");

static int keeps_flags(const unsigned char *site);

long call_site(void *site, long number, long first) {
    struct canary c = {.site = (uint64_t)site, .number = number, .first = first};
    long result = canary(&c);
    static const uint64_t kept[11] = {0xb0b0, 0x15151515, 0x12121212, 0x13131313, 0x14141414, 0, 0xee, 0xcc, 0x10, 0x88, 0x99};
    for (int i = 0; i < 11; i++) CHECK_EQUAL(c.found[i], i == 5 ? (uint64_t)first : kept[i]);
    if (keeps_flags(site)) CHECK_EQUAL(c.found[11] & FLAGS, FLAGS);
    CHECK_EQUAL(c.found[12], c.found[13]);
    for (int i = 1; i <= 14; i++) CHECK_EQUAL(c.red[i - 1], 3 * i);
    CHECK(!memcmp(c.vectors, vectors, sizeof vectors));
    CHECK_EQUAL(c.rounding & 0x6000, 0x2000);
    return result;
}

/* A number in the code, as most call sites have it; one in rax, with glibc's and musl's checks behind; none that can be rewritten; glibc's
 * syscall(3) with a sixth argument; and computing, for signals to come in between. */
enum { NUMBER, COMPARE, BARE, SIXTH, COMPUTING };

static const unsigned char codes[FORMS][SITE_BYTES] = {
    [NUMBER] = {0x90, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3},
    [COMPARE] = {0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xc3},
    [BARE] = {0x0f, 0x05, 0xc3},
    [SIXTH] = {0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xc3},
    /* mov $2000,%ecx; 1: dec %ecx; jnz 1b; ret */
    [COMPUTING] = {0xb9, 0xd0, 0x07, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xc3},
};

static int keeps_flags(const unsigned char *site) { return site[0] == 0x90 || (site[0] == 0x0f && site[2] == 0xc3); }

void write_site(unsigned char *place, int form, int number) {
    unsigned char code[SITE_BYTES];
    memcpy(code, codes[form], SITE_BYTES);
    if (form == NUMBER) memcpy(code + 2, &number, 4);
    memcpy(place, code, SITE_BYTES);
}

int some_number(struct worker *worker) {
    static const int numbers[] = {SYS_getpid, SYS_gettid, SYS_getuid, SYS_close, SYS_lseek};
    return numbers[below(worker, sizeof numbers / sizeof *numbers)];
}

void check_site(void *place, int form, int number, pid_t process, pid_t thread) {
    long result = call_site(place, number, -1);
    if (form == COMPUTING) return;
    switch (number) {
    case SYS_getpid: CHECK_EQUAL(result, process); break;
    case SYS_gettid: CHECK_EQUAL(result, thread); break;
    case SYS_getuid: CHECK_EQUAL(result, 0); break;
    default: CHECK_EQUAL(result, -EBADF);
    }
}
