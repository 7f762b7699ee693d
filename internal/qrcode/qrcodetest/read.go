// Package qrcodetest reads QR codes that were drawn as text by zbar, which knows nothing of the library that draws them.
package qrcodetest

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os/exec"
	"strings"
	"testing"
)

// scale is the width of a module in pixels.
const scale = 4

// Read returns the text of a code of half blocks. Escape sequences of a terminal are left out.
func Read(t testing.TB, drawn string) string {
	t.Helper()
	var lines [][]rune
	width := 0
	for line := range strings.Lines(drawn) {
		row := []rune(plain(strings.TrimRight(line, "\r\n")))
		lines, width = append(lines, row), max(width, len(row))
	}
	picture := image.NewGray(image.Rect(0, 0, width*scale, len(lines)*2*scale))
	for i := range picture.Pix {
		picture.Pix[i] = 255
	}
	for y, line := range lines {
		for x, r := range line {
			for half, dark := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
				for i := 0; dark && i < scale*scale; i++ {
					picture.SetGray(x*scale+i%scale, (2*y+half)*scale+i/scale, color.Gray{})
				}
			}
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("zbarimg", "--quiet", "--raw", "--oneshot", "-Sbinary", "png:-")
	cmd.Stdin = &file
	var errs bytes.Buffer // it misses the desktop's bus
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("zbarimg reads nothing: %v: %s\n%s", err, errs.String(), drawn)
	}
	return string(out)
}

// plain leaves out the colours of a line.
func plain(line string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(line, "\x1b[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, line, _ = strings.Cut(after, "m")
	}
}
