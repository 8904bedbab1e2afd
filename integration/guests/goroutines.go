// A Go program: its calls are all made at a few sites of the runtime, its goroutines are preempted by signals, it starts other programs by vfork.
// Says "ok".
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var bad atomic.Bool

func check(good bool, what string, values ...any) {
	if !good {
		bad.Store(true)
		fmt.Fprintln(os.Stderr, what, values)
	}
}

// Pages of the program's text that are not what its file has.
func rewrittenPages() (pages int) {
	maps, _ := os.ReadFile("/proc/self/maps")
	file, _ := os.ReadFile("/proc/self/exe")
	for _, line := range strings.Split(string(maps), "\n") {
		var start, end, offset, inode uintptr
		var access, device string
		n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %d", &start, &end, &access, &offset, &device, &inode)
		if n != 6 || access != "r-xp" || inode == 0 {
			continue
		}
		for ; start < end; start, offset = start+4096, offset+4096 {
			page := unsafe.Slice((*byte)(unsafe.Pointer(start)), 4096)
			if offset+4096 <= uintptr(len(file)) && !bytes.Equal(page, file[offset:offset+4096]) {
				pages++
			}
		}
	}
	return
}

// Never calls anything, so that only a signal can take the processor from it.
func spin(until *atomic.Bool) (n uint64) {
	for !until.Load() {
		n = n*3 + 1
	}
	return
}

func main() {
	if len(os.Args) > 1 {
		fmt.Print(os.Args[1])
		return
	}
	parent := syscall.Getppid()
	for i := 0; i < 200; i++ {
		check(syscall.Getppid() == parent, "getppid")
	}
	check(rewrittenPages() > 0, "nothing is rewritten")

	var stop atomic.Bool
	var workers sync.WaitGroup
	for i := 0; i < runtime.GOMAXPROCS(0); i++ {
		workers.Add(1)
		go func() { defer workers.Done(); spin(&stop) }()
	}
	for i := 0; i < 6; i++ {
		workers.Add(1)
		go func(i int) {
			defer workers.Done()
			reader, writer, err := os.Pipe()
			check(err == nil, "pipe", err)
			for n := 0; n < 100; n++ {
				sent := []byte(fmt.Sprintf("%d of %d", n, i))
				got := make([]byte, 64)
				writer.Write(sent)
				length, _ := reader.Read(got)
				check(bytes.Equal(sent, got[:length]), "pipe", string(sent), string(got[:length]))
				check(syscall.Getppid() == parent, "getppid")
			}
		}(i)
	}
	for i := 0; i < 5; i++ {
		before := time.Now()
		runtime.GC()
		output, err := exec.Command("/proc/self/exe", "child").Output()
		check(err == nil && string(output) == "child", "exec", err, string(output))
		time.Sleep(2 * time.Millisecond)
		check(time.Since(before) >= 2*time.Millisecond, "time")
	}
	stop.Store(true)
	workers.Wait()
	if bad.Load() {
		fmt.Println("failed")
		os.Exit(1)
	}
	fmt.Println("ok")
}
