// Package control is how a test talks to its program: one command a line on stdin, one answer a line on stdout.
package control

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

// Command answers a line of stdin, which came as words. It returns false if it does not know the command.
type Command func(words []string) bool

// Serve says that the program is ready, once every goroutine stays where it is (but for those whose stack contains
// `restless`, if that is not empty), and answers commands.
func Serve(restless string, more Command) {
	Settle(restless)
	Answer(more)
}

// Answer says that the program is ready and answers commands: `dump FILE` (the runtime's debug=2 text), `gc`, `quit`,
// and what `more` knows.
func Answer(more Command) {
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 2 && words[0] == "dump":
			Profile(words[1], 2)
			fmt.Println("dumped")
		case len(words) == 1 && words[0] == "gc":
			runtime.GC()
			runtime.GC()
			fmt.Println("done")
		case len(words) == 1 && words[0] == "quit":
			os.Exit(0)
		case more == nil || !more(words):
			fmt.Fprintln(os.Stderr, "no such command:", lines.Text())
			os.Exit(2)
		}
	}
	os.Exit(0)
}

// Profile writes the goroutine profile to a file and returns how long the runtime took.
func Profile(path string, debug int) time.Duration {
	file, err := os.Create(path)
	Must(err)
	began := time.Now()
	Must(pprof.Lookup("goroutine").WriteTo(file, debug))
	took := time.Since(began)
	Must(file.Close())
	return took
}

// Must ends the program if err is an error.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// What is different each time: the minutes of a wait, and the arguments of a call.
var changing = regexp.MustCompile(`, \d+ minutes|\([^()\n]*\)\n`)

// Settle waits until the goroutines have stayed where they are for a while. Those whose stack contains `restless`, if it
// is not empty, may run.
func Settle(restless string) {
	before, same := "", 0
	buffer := make([]byte, 1<<20)
	for same < 5 {
		time.Sleep(20 * time.Millisecond)
		n := runtime.Stack(buffer, true)
		if n == len(buffer) {
			buffer = make([]byte, 2*len(buffer))
			continue
		}
		var records []string
		// The first record is our own.
		for _, record := range strings.Split(string(buffer[:n]), "\n\n")[1:] {
			if restless == "" || !strings.Contains(record, restless) {
				records = append(records, record)
			}
		}
		now := changing.ReplaceAllString(strings.Join(records, "\n\n"), "\n")
		same++
		if now != before || strings.Contains(now, "[runnable") || strings.Contains(now, "[running") {
			same = 0
		}
		before = now
	}
}
