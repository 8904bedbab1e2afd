// Rewritten call sites under stress: threads that call from sites of every form, fork, signal, map and unmap at once. Each call site has all
// registers, the red zone, flags and vector registers filled and looks at them afterwards. Says "ok".
// rewriting_stress SECONDS
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int stop; static int failures;
static long counts[16];
#define FAIL(...) do { fprintf(stderr, "FAIL: " __VA_ARGS__); fputc('\n', stderr); __atomic_add_fetch(&failures,1,__ATOMIC_SEQ_CST); stop = 1; } while (0)

static __thread volatile long handled;
static void handler(int s, siginfo_t *i, void *c) { (void)s;(void)i;(void)c; handled++; asm volatile("vpxor %%ymm0,%%ymm0,%%ymm0\n vpxor %%ymm9,%%ymm9,%%ymm9\n pxor %%xmm15,%%xmm15":::"xmm0","xmm9","xmm15"); volatile double x = 1.5 * handled; (void)x; }


struct frame { long rbx,r12,r13,r14,rbp,rdi,rsi,rdx,r10,r8,r9,red1,red2,carry,rsp_in,rsp_out; long y1[4], y14[4]; };
extern long site_number(struct frame*, long), site_compare(struct frame*, long), site_zero(struct frame*, long), site_sixth(struct frame*, long), site_musl(struct frame*, long);
extern char site_number_end[], site_compare_end[];
#define BODY(name, call) \
".globl " name "\n.balign 64\n" name ":\n" \
" push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n sub $8,%rsp\n" \
" mov %rdi,%r15\n mov %rsp,112(%r15)\n" \
" vmovdqu seed(%rip),%ymm1\n vmovdqu seed(%rip),%ymm14\n" \
" mov $0xb0b0b0b0,%ebx\n mov $0x12121212,%r12d\n mov $0x13131313,%r13d\n mov $0x14141414,%r14d\n mov $0x15151515,%ebp\n" \
" movq $0x77777777,-8(%rsp)\n movq $0x66666666,-128(%rsp)\n" \
" mov %rsi,%rax\n mov $0xdd,%edi\n mov $0xee,%esi\n mov $0xcc,%edx\n mov $0x10,%r10d\n mov $0x88,%r8d\n mov $9,%r9d\n stc\n" \
call \
" mov %rsp,120(%r15)\n mov %rbx,0(%r15)\n mov %r12,8(%r15)\n mov %r13,16(%r15)\n mov %r14,24(%r15)\n mov %rbp,32(%r15)\n" \
" mov %rdi,40(%r15)\n mov %rsi,48(%r15)\n mov %rdx,56(%r15)\n mov %r10,64(%r15)\n mov %r8,72(%r15)\n mov %r9,80(%r15)\n" \
" mov -8(%rsp),%rcx\n mov %rcx,88(%r15)\n mov -128(%rsp),%rcx\n mov %rcx,96(%r15)\n" \
" vmovdqu %ymm1,128(%r15)\n vmovdqu %ymm14,160(%r15)\n" \
" add $8,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
asm(".text\n"
BODY("site_number", " nop\n mov $39,%eax\n syscall\n setc 104(%r15)\n nop\n .globl site_number_end\nsite_number_end:\n")
BODY("site_compare", " .globl site_compare_start\nsite_compare_start: syscall\n .byte 0x48,0x3d,0x01,0xf0,0xff,0xff\n")
BODY("site_zero", " nop\n xor %eax,%eax\n syscall\n .byte 0x48,0x3d,0x00,0xf0,0xff,0xff\n")
BODY("site_sixth", " mov 8(%rsp),%r9\n syscall\n .byte 0x48,0x3d,0x01,0xf0,0xff,0xff\n mov $9,%r9d\n")
BODY("site_musl", " nop\n mov $186,%eax\n syscall\n ret_here: nop\n")
".globl jump_into\njump_into: mov $39,%eax\n jmp site_direct\n"
".balign 64\nnop\n.globl site_with_label\nsite_with_label: mov $39,%eax\nsite_direct: syscall\n ret\n"
".data\n.balign 32\nseed: .quad 0x1111,0x2222,0x3333,0x4444\n.text\n");
extern long jump_into(void), site_with_label(void);

static void check(const char *what, struct frame *f, long ret, long want) {
  if (ret != want) { FAIL("%s returned %ld, not %ld", what, ret, want); return; }
  if (f->rbx!=0xb0b0b0b0L || f->r12!=0x12121212L || f->r13!=0x13131313L || f->r14!=0x14141414L || f->rbp!=0x15151515L) FAIL("%s: preserved registers", what);
  if (f->rdi!=0xdd||f->rsi!=0xee||f->rdx!=0xcc||f->r10!=0x10||f->r8!=0x88||f->r9!=9) FAIL("%s: argument registers %lx %lx %lx %lx %lx %lx", what,f->rdi,f->rsi,f->rdx,f->r10,f->r8,f->r9);
  if (f->rsp_in != f->rsp_out) FAIL("%s: rsp", what);
  if (f->red1!=0x77777777L||f->red2!=0x66666666L) FAIL("%s: red zone %lx %lx", what, f->red1, f->red2);
  for (int i=0;i<4;i++) if (f->y1[i]!=0x1111L*(i+1)||f->y14[i]!=0x1111L*(i+1)) FAIL("%s: vectors", what);
}
static void *sites(void *arg) {
  long me = (long)arg; pid_t pid = getpid(); pid_t tid = syscall(SYS_gettid);
  struct frame f;
  while (!stop) {
    memset(&f,0,sizeof f); check("number", &f, site_number(&f,0), pid); if (!(f.carry&1)) FAIL("number: carry");
    memset(&f,0,sizeof f); check("compare", &f, site_compare(&f,SYS_getpid), pid);
    memset(&f,0,sizeof f); check("compare tid", &f, site_compare(&f,SYS_gettid), tid);
    memset(&f,0,sizeof f); check("zero", &f, site_zero(&f,0), -EBADF);
    memset(&f,0,sizeof f); check("sixth", &f, site_sixth(&f,SYS_getpid), pid);
    memset(&f,0,sizeof f); check("musl", &f, site_musl(&f,0), tid);
    if (jump_into()!=pid || site_with_label()!=pid) FAIL("direct jump");
    counts[me]++;
  }
  return 0;
}
static void *mapper(void *arg) {
  long me=(long)arg;
  while(!stop) {
    size_t n = 4096*(1+rand()%8);
    char *p = mmap(0,n,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0);
    if (p==MAP_FAILED) { FAIL("mmap %d",errno); break; }
    memset(p,(int)me,n); 
    if (mprotect(p,n,PROT_READ)) FAIL("mprotect");
    for (size_t i=0;i<n;i+=512) if (p[i]!=(char)me) FAIL("mapped byte");
    if (munmap(p,n)) FAIL("munmap");
    counts[me]++;
  }
  return 0;
}
static int pipefd[2];
static void *reader(void *arg) { // blocking reads that are interrupted and restarted
  long me=(long)arg; unsigned char expect=0; unsigned char b[64];
  while(!stop) {
    ssize_t n=read(pipefd[0],b,sizeof b);
    if (n<0) { FAIL("read %d",errno); break; }
    if (n==0) break;
    for (ssize_t i=0;i<n;i++) if (b[i]!=expect++) FAIL("pipe order");
    counts[me]++;
  }
  return 0;
}
static void *writer(void *arg) {
  long me=(long)arg; unsigned char v=0; unsigned char b[17];
  while(!stop) {
    for (unsigned i=0;i<sizeof b;i++) b[i]=v++;
    size_t done=0; while(done<sizeof b){ ssize_t n=write(pipefd[1],b+done,sizeof b-done); if(n<0){FAIL("write %d",errno);return 0;} done+=n; }
    counts[me]++;
    if (counts[me]%64==0) { struct timespec t={0,300000}; if (nanosleep(&t,0)&&errno!=EINTR) FAIL("nanosleep"); }
  }
  close(pipefd[1]);
  return 0;
}
static pthread_t threads[16]; static int nthreads;
static void *signaller(void *arg) {
  long me=(long)arg;
  while(!stop) { for (int i=0;i<nthreads-1 && !stop;i++) pthread_kill(threads[i], SIGUSR1); counts[me]++; usleep(200); }
  return 0;
}
static void *forker(void *arg) {
  long me=(long)arg;
  while(!stop) {
    pid_t p=fork();
    if (p<0) { FAIL("fork %d",errno); break; }
    if (p==0) {
      struct frame f; pid_t own=syscall(SYS_getpid); int bad=0;
      for (int i=0;i<20;i++) { memset(&f,0,sizeof f); if (site_number(&f,0)!=own) bad=1; memset(&f,0,sizeof f); if (site_compare(&f,SYS_getpid)!=own) bad=2; check("child", &f, own, own); }
      _exit(bad|failures);
    }
    int st; pid_t r; while((r=waitpid(p,&st,0))<0&&errno==EINTR);
    if (r!=p||st) FAIL("child %d status %x",p,st);
    counts[me]++;
  }
  return 0;
}
int main(int argc,char**argv) {
  int seconds=argc>1?atoi(argv[1]):20; 
  struct sigaction a; memset(&a,0,sizeof a); a.sa_sigaction=handler; a.sa_flags=SA_SIGINFO|SA_RESTART; sigaction(SIGUSR1,&a,0);
  if (pipe(pipefd)) return 2;
  void *(*roles[])(void*)={sites,sites,mapper,reader,writer,forker,signaller};
  nthreads=7;
  for (long i=0;i<nthreads;i++) pthread_create(&threads[i],0,roles[i],(void*)i);
  struct timespec t0,t; clock_gettime(CLOCK_MONOTONIC,&t0);
  do { usleep(100000); clock_gettime(CLOCK_MONOTONIC,&t); } while(!stop && t.tv_sec-t0.tv_sec<seconds);
  stop=1; 
  for (int i=0;i<nthreads;i++) pthread_join(threads[i],0);
  for (int i=0;i<nthreads;i++) if (!counts[i]) FAIL("thread %d did nothing",i);
  puts(failures?"failed":"ok");
  return failures!=0;
}
