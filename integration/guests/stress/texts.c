/* Text that changes: pages that a program writes code into, files that it maps as dlopen(3) does, and pages that others change while
 * threads are in them. */
#include "stress.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { PAGE = 4096, PAGES = 3, SITES = PAGES * PAGE / 64 };

static pid_t gettid_now(void) { return syscall(SYS_gettid); }

/* Code in anonymous memory: never rewritten, but it looks like what is. */
static void just_in_time(struct worker *worker) {
    static __thread unsigned char *text;
    if (!text) {
        text = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(text != MAP_FAILED);
    }
    unsigned char *site = text + below(worker, PAGE - SITE_BYTES);
    int form = below(worker, FORMS), number = some_number(worker);
    write_site(site, form, number);
    CHECK(!mprotect(text, PAGE, PROT_READ | PROT_EXEC));
    for (int calls = below(worker, 40); calls-- && !over;) check_site(site, form, number, getpid(), gettid_now());
    CHECK(!mprotect(text, PAGE, PROT_READ | PROT_WRITE | (below(worker, 2) ? PROT_EXEC : 0)));
}

/* A file full of sites, all of which call, and what is in it. */
struct file {
    int descriptor;
    unsigned char bytes[PAGES * PAGE];
    int forms[SITES], numbers[SITES];
};

static void make(struct file *file, struct worker *worker, const char *name) {
    memset(file->bytes, 0x90, sizeof file->bytes);
    for (int i = 0; i < SITES; i++) {
        file->forms[i] = below(worker, FORMS);
        file->numbers[i] = some_number(worker);
        write_site(file->bytes + 64 * i, file->forms[i], file->numbers[i]);
    }
    file->descriptor = open(name, O_RDWR | O_CREAT | O_TRUNC, 0700);
    CHECK(file->descriptor >= 0);
    CHECK_EQUAL(write(file->descriptor, file->bytes, sizeof file->bytes), sizeof file->bytes);
}

static unsigned char *map(struct file *file) {
    void *text = mmap(0, sizeof file->bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, file->descriptor, 0);
    CHECK(text != MAP_FAILED);
    return text;
}

static void call_some(struct file *file, unsigned char *text, struct worker *worker) {
    /* A few sites often, so that they are rewritten. */
    for (int rounds = 3; rounds-- && !over;) {
        int i = below(worker, SITES);
        for (int calls = below(worker, 60); calls-- && !over;)
            check_site(text + 64 * i, file->forms[i], file->numbers[i], getpid(), gettid_now());
    }
}

/* Others see the text as it was written. */
static void read_back(struct file *file, unsigned char *text, struct worker *worker) {
    unsigned char copy[PAGE];
    int page = below(worker, PAGES);
    struct iovec to = {copy, PAGE}, from = {text + page * PAGE, PAGE};
    CHECK_EQUAL(process_vm_readv(getpid(), &to, 1, &from, 1, 0), PAGE);
    CHECK(!memcmp(copy, file->bytes + page * PAGE, PAGE));
    int ends[2];
    CHECK(!pipe(ends));
    CHECK_EQUAL(write(ends[1], text + page * PAGE, PAGE), PAGE);
    CHECK_EQUAL(read(ends[0], copy, PAGE), PAGE);
    CHECK(!memcmp(copy, file->bytes + page * PAGE, PAGE));
    close(ends[0]), close(ends[1]);
}

/* Mapped, called, changed, moved, unmapped, as by a program that loads and relocates a library. */
static void load(struct worker *worker) {
    static __thread struct file *file;
    if (!file) {
        char name[64];
        file = malloc(sizeof *file);
        snprintf(name, sizeof name, "/tmp/text-%d", worker->number);
        make(file, worker, name);
    }
    unsigned char *text = map(file);
    call_some(file, text, worker);
    if (below(worker, 2)) read_back(file, text, worker);
    if (below(worker, 2)) {
        /* A private change: the file and its other mappings stay as they are. */
        int i = below(worker, SITES), page = i * 64 / PAGE;
        CHECK(!mprotect(text + page * PAGE, PAGE, PROT_READ | PROT_WRITE));
        CHECK(!memcmp(text + page * PAGE, file->bytes + page * PAGE, PAGE));
        write_site(text + 64 * i, 0, SYS_gettid);
        CHECK(!mprotect(text + page * PAGE, PAGE, PROT_READ | PROT_EXEC));
        for (int calls = 20; calls-- && !over;) check_site(text + 64 * i, 0, SYS_gettid, getpid(), gettid_now());
        write_site(file->bytes + 64 * i, file->forms[i], file->numbers[i]);
        CHECK(mmap(text + page * PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file->descriptor, page * PAGE) != MAP_FAILED);
        call_some(file, text, worker);
    }
    if (below(worker, 2)) {
        void *place = mmap(0, sizeof file->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(mremap(text, sizeof file->bytes, sizeof file->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
        text = place;
        call_some(file, text, worker);
    }
    CHECK(!munmap(text, sizeof file->bytes));
}

/* A page that some call while another takes it from readable to writable and back, and changes the number in a call. */
static unsigned char *shared_text;
static struct file shared_file;
enum { CALLED = 7 };

static void prepare_shared(void) {
    struct worker nobody = {.random = 12345};
    make(&shared_file, &nobody, "/tmp/text-shared");
    for (int i = 0; i < SITES; i++) {
        shared_file.forms[i] = i % 2;
        shared_file.numbers[i] = i % 2 ? SYS_getpid : SYS_gettid;
        memset(shared_file.bytes + 64 * i, 0x90, 64);
        /* The number lies at a multiple of four, so that it is written at once. */
        write_site(shared_file.bytes + 64 * i + 2, shared_file.forms[i], shared_file.numbers[i]);
    }
    CHECK_EQUAL(pwrite(shared_file.descriptor, shared_file.bytes, sizeof shared_file.bytes, 0), sizeof shared_file.bytes);
    shared_text = map(&shared_file);
}

static void call_shared(struct worker *worker) {
    pid_t process = getpid(), thread = gettid_now();
    int i = below(worker, CALLED);
    for (int calls = 60; calls-- && !over;) {
        long result = call_site(shared_text + 64 * i + 2, SYS_getpid, -1);
        CHECK(i % 2 ? result == process : result == process || result == thread);
    }
}

static void change_shared(struct worker *worker) {
    CHECK(!mprotect(shared_text, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    unsigned char *site = shared_text + 64 * (2 * below(worker, CALLED / 2)) + 2;
    CHECK(site[0] == 0x90 && site[1] == 0xb8 && site[6] == 0x0f && site[7] == 0x05);
    __atomic_store_n((int *)(site + 2), below(worker, 2) ? SYS_getpid : SYS_gettid, __ATOMIC_SEQ_CST);
    if (below(worker, 2)) pause_for(below(worker, 300));
    CHECK(!mprotect(shared_text, PAGE, PROT_READ | PROT_EXEC));
    pause_for(below(worker, 3000));
}

const struct role texts[] = {
    {"jit", 2, 0, just_in_time, 0},
    {"load", 2, 0, load, 0},
    {"call-shared", 2, prepare_shared, call_shared, 0},
    {"change-shared", 1, 0, change_shared, 0},
    {0},
};
