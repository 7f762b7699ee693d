package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"postern/internal/auth"
)

// readSecret reads a password: from the terminal without echo, or the first line of what is
// piped in. It never comes from the command line, where other users could read it.
func (a *app) readSecret(what string, twice bool) (auth.Secret, error) {
	if !term.IsTerminal(int(a.In.Fd())) {
		return readLine(a.In)
	}
	first, err := a.prompt(what + ": ")
	if err != nil {
		return auth.Secret{}, err
	}
	if twice {
		second, err := a.prompt("again: ")
		if err != nil {
			return auth.Secret{}, err
		}
		if first != second {
			return auth.Secret{}, errors.New("the two entries differ: try again")
		}
	}
	return checkSecret(first)
}

func (a *app) prompt(text string) (string, error) {
	fmt.Fprint(a.Err, text)
	answer, err := term.ReadPassword(int(a.In.Fd()))
	fmt.Fprintln(a.Err)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return string(answer), nil
}

func readLine(in *os.File) (auth.Secret, error) {
	line, err := bufio.NewReader(io.LimitReader(in, auth.MaxSecret+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return auth.Secret{}, fmt.Errorf("read password: %w", err)
	}
	return checkSecret(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
}

func checkSecret(text string) (auth.Secret, error) {
	if err := auth.CheckSecret(text); err != nil {
		return auth.Secret{}, fmt.Errorf("that cannot be a password, give another one: %w", err)
	}
	return auth.NewSecret(text), nil
}
