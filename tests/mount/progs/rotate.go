// SPDX-License-Identifier: MIT
// rotate FILE bufio|direct: 10,000 records, and one line of text, through lumberjack, which
// rotates at 1 MB and keeps three old files; with or without a bufio.Writer before it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"gopkg.in/natefinch/lumberjack.v2"
)

func check(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func main() {
	rotating := &lumberjack.Logger{Filename: os.Args[1], MaxSize: 1, MaxBackups: 3}
	buffered := bufio.NewWriter(rotating)
	var to io.Writer = rotating
	if os.Args[2] == "bufio" {
		to = buffered
	}
	for n := 0; n < 10000; n++ {
		if n == 7000 {
			fmt.Fprintln(to, "plain text")
		}
		fmt.Fprintf(to, "{\"n\":%d,\"pad\":\"%0480d\"}\n", n, n)
	}
	check("flush", buffered.Flush())
	check("close", rotating.Close())
}
