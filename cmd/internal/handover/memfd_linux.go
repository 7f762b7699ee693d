package handover

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"postern/internal/snapshot"
)

// seals keep the content of a memory file as it is, so that what one check has found stays true.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Seal returns a memory file with data, which can be read and not be changed any more.
func Seal(name string, data []byte) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = control(f, func(fd uintptr) error {
			_, err := unix.FcntlInt(fd, unix.F_ADD_SEALS, seals)
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory file: %w", err), f.Close())
	}
	return f, nil
}

// Unseal returns the content of a memory file that Seal has made.
func Unseal(f *os.File) ([]byte, error) {
	var has int
	err := control(f, func(fd uintptr) (err error) {
		has, err = unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("it is no memory file: %w", err)
	}
	if has&seals != seals {
		return nil, errors.New("its memory file is not sealed")
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > snapshot.MaxSize {
		return nil, errors.New("its memory file is too large")
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), data); err != nil {
		return nil, err
	}
	return data, nil
}
