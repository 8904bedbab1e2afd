// What programs may do to text that was rewritten under them, and to what it needs: read it, make it writable and change it, move it, drop
// it, unmap the thunks, use gs, step through it, take signals there, jump into the middle of it. Says "ok".
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <fcntl.h>
asm(".text\n.balign 4096\n.globl page\npage: nop\n.globl call_number\ncall_number: mov $39,%eax\n.globl inner\ninner: syscall\n ret\n"
".globl call_any\ncall_any: mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n .globl any_site\nany_site: syscall\n .byte 0x48,0x3d,0x01,0xf0,0xff,0xff\n ret\n"
".globl answer\nanswer: mov $1,%eax\n ret\n.balign 4096\nnop\n");
extern long call_number(void), call_any(long,long,long), inner(void); extern char page[], any_site[]; extern int answer(void);
static int bad; static unsigned char orig[4096];
#define CHECK(c) do { if(!(c)) { fprintf(stderr, "line %d: %s\n", __LINE__, #c); bad=1; } } while(0)
static void hot(void) { pid_t p=syscall(SYS_getpid); for(int i=0;i<40;i++){ if(call_number()!=p||call_any(SYS_getpid,0,0)!=p) { CHECK(!"pid"); return; } } }
static volatile long steps; static unsigned long last, lastn;
static void trap(int s, siginfo_t*i, void*c){ ucontext_t*u=c; steps++; unsigned long ip=u->uc_mcontext.gregs[REG_RIP]; if (ip-(unsigned long)page>=4096 && ip >= (unsigned long)page+0x30000000) lastn=ip; last=ip; }
static volatile long alarms; static unsigned long oddrip;
static void onalarm(int s, siginfo_t*i, void*c){ ucontext_t*u=c; alarms++; unsigned long ip=u->uc_mcontext.gregs[REG_RIP]; if (ip-(unsigned long)page>=4096 && ip>(unsigned long)page+0x1000000 && ip<0x7f0000000000) oddrip=ip; }
int main(void){
  memcpy(orig,page,4096); pid_t me=getpid();
  hot();
  // Or else this tests nothing.
  CHECK(memcmp(orig,page,4096)!=0);
  unsigned char copy[4096]; struct iovec l={copy,4096}, r={page,4096};
  ssize_t n=process_vm_readv(me,&l,1,&r,1,0); if(n==4096) CHECK(!memcmp(copy,orig,4096));
  int fd=open("/proc/self/mem",O_RDONLY); if(fd>=0){ n=pread(fd,copy,4096,(off_t)page); if(n==4096) CHECK(!memcmp(copy,orig,4096)); close(fd);} 
  int pp[2]; CHECK(!pipe(pp)); CHECK(write(pp[1],page,4096)==4096); CHECK(read(pp[0],copy,4096)==4096); CHECK(!memcmp(copy,orig,4096));
  // write access: the original comes back, and what is written stays
  CHECK(!mprotect(page,4096,PROT_READ|PROT_WRITE)); CHECK(!memcmp(orig,page,4096)); 
  { unsigned char*a=(unsigned char*)answer; a[1]=2; } CHECK(!mprotect(page,4096,PROT_READ|PROT_EXEC)); CHECK(answer()==2); hot(); CHECK(answer()==2);
  CHECK(!mprotect(page,4096,PROT_READ|PROT_WRITE|PROT_EXEC)); { unsigned char*a=(unsigned char*)answer; a[1]=3; } hot(); CHECK(answer()==3);
  // libc's text (dynamic or not): read-only and back while rewritten
  for(int i=0;i<30;i++) syscall(SYS_gettid);
  unsigned long lp=(unsigned long)syscall & ~4095UL; 
  // A child of its own for each odd thing.
  for(int test=0;test<8;test++){ pid_t c=fork(); if(!c){
    switch(test){
     case 0: { // fresh exec'd text in the child is inherited; use gs by arch_prctl
       static long area[4096]; CHECK(!syscall(SYS_arch_prctl,0x1001,area)); area[0]=0x5a5a; long v; asm volatile("mov %%gs:0,%0":"=r"(v)); CHECK(v==0x5a5a); hot(); for(int i=0;i<100;i++) syscall(SYS_getpid); asm volatile("mov %%gs:0,%0":"=r"(v)); CHECK(v==0x5a5a);
       unsigned long g=0; CHECK(!syscall(SYS_arch_prctl,0x1004,&g)); CHECK(g==(unsigned long)area); for(int i=0;i<4096;i++) CHECK(i==0||area[i]==0);
       CHECK(!syscall(SYS_arch_prctl,0x1001,0)); hot(); for(int i=0;i<100;i++) CHECK(syscall(SYS_getpid)==getpid()); break; }
     case 1: { // gs to nowhere, behind the sentry's back
       for(int i=0;i<40;i++) syscall(SYS_getpid); asm volatile("wrgsbase %0"::"r"(0x10UL)); for(int i=0;i<100;i++) CHECK(syscall(SYS_getpid)==getpid()); hot(); asm volatile("wrgsbase %0"::"r"(0x123456UL)); hot(); break; }
     case 2: { // unmap thunks: all areas that are not ours and r-x anonymous
       for(int i=0;i<40;i++) syscall(SYS_getpid); FILE*f=fopen("/proc/self/maps","r"); char line[512]; unsigned long a[64],b[64]; int k=0; while(fgets(line,sizeof line,f)){ char p[8]; unsigned long x,y,o; int in; char nm[300]=""; sscanf(line,"%lx-%lx %7s %lx %*s %d %299s",&x,&y,p,&o,&in,nm); if(!strcmp(p,"r-xp")&&in==0&&!nm[0]&&k<64){a[k]=x;b[k++]=y;} } fclose(f);
       CHECK(k>0); for(int i=0;i<k;i++){ if(i&1) CHECK(!munmap((void*)a[i],b[i]-a[i])); else CHECK(mmap((void*)a[i],b[i]-a[i],PROT_READ|PROT_WRITE,MAP_FIXED|MAP_PRIVATE|MAP_ANONYMOUS,-1,0)==(void*)a[i]); }
       for(int i=0;i<100;i++) CHECK(syscall(SYS_getpid)==getpid()); hot(); break; }
     case 3: { // single step through hot sites
       struct sigaction s; memset(&s,0,sizeof s); s.sa_sigaction=trap; s.sa_flags=SA_SIGINFO; sigaction(SIGTRAP,&s,0); for(int i=0;i<40;i++) syscall(SYS_getpid);
       asm volatile("pushf\n orq $0x100,(%%rsp)\n popf":::"cc","memory"); long p=syscall(SYS_getpid); asm volatile("pushf\n andq $~0x100,(%%rsp)\n popf":::"cc","memory"); CHECK(p==getpid());  CHECK(steps>5); break; }
     case 4: { // the page moves
       hot(); void*to=mmap(0,4096,PROT_NONE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); unsigned long sp=(unsigned long)syscall&~4095UL; (void)sp; void*m=mremap(page,4096,4096,MREMAP_MAYMOVE|MREMAP_FIXED,to); CHECK(m==to); long(*f)(void)=(void*)((char*)to+((char*)call_number-page)); for(int i=0;i<40;i++) CHECK(f()==getpid()); break; }
     case 5: { // interval timer against hot loop: registers at signals are never in a thunk
       struct sigaction s; memset(&s,0,sizeof s); s.sa_sigaction=onalarm; s.sa_flags=SA_SIGINFO|SA_RESTART; sigaction(SIGALRM,&s,0); ualarm(300,300); long p=getpid(); for(int i=0;i<60000;i++) if(syscall(SYS_getpid)!=p||call_number()!=p) {CHECK(!"pid"); break;} ualarm(0,0); CHECK(alarms>0); CHECK(!oddrip); if(oddrip) fprintf(stderr, "rip %lx\n",oddrip); break; }
     case 6: { // MADV_DONTNEED on text
       hot(); CHECK(!madvise((void*)lp,4096,MADV_DONTNEED)); for(int i=0;i<100;i++) CHECK(syscall(SYS_getpid)==getpid()); break; }
     case 7: { // jump to odd places of the site dies or works, and nothing else
       for(int k=1;k<8;k++){ pid_t q=fork(); if(!q){ struct rlimit; void(*f)(void)=(void*)(any_site+k); f(); _exit(0);} int st; waitpid(q,&st,0);} hot(); break; }
    }
    fflush(stdout); _exit(bad);} int st; CHECK(waitpid(c,&st,0)==c); if(st) { fprintf(stderr, "test %d: status %x\n",test,st); bad=1; } }
  puts(bad?"failed":"ok"); return bad; }
