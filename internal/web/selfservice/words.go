package selfservice

import (
	"net/http"
	"strings"
	"time"

	"postern/internal/web"
)

// words are the texts of the page in one language.
type words struct {
	lang string
	date string // layout of a day
	time string // layout of a moment

	site, signOut, home, passwordPage                          string
	heading, intro, none, name, use, last, ends, state, unused string
	everything, mail, chat                                     string
	alive, expired, revoked, never                             string
	revoke, revokeOf                                           string
	newOne, nameHint, useLabel, endLabel, days30, days90, year string
	make                                                       string
	made, madeHint, copy, copied, settings                     string
	account, appPassword, incoming, outgoing, jabber           string
	codes, codeText, codeThunderbird, codeChat                 string
	apple, appleHint, done                                     string
	change, changeHint, old, fresh, again, changeIt            string
	didRevoke, didChange                                       string
	errName, errFull, errGone, errNone, errFailed              string
	errOld, errSame, errAgain, errEmpty, errRejected, errLater string
}

var english = words{
	lang: "en", date: "2 January 2006", time: "2 January 2006, 15:04 MST",
	site: "my account", signOut: "Sign out", home: "App passwords", passwordPage: "Password",
	heading: "App passwords",
	intro:   "Each of your devices and programs gets a password of its own. If you lose one, you take back its password, and the others go on.",
	none:    "You have no app passwords yet.",
	name:    "Name", use: "For", last: "Last used", ends: "Ends", state: "State", unused: "never",
	everything: "everything", mail: "mail", chat: "chat",
	alive: "valid", expired: "expired", revoked: "taken back", never: "never",
	revoke: "Take back", revokeOf: "Take back the app password of",
	newOne: "New app password", nameHint: "What is to have it, such as “Phone” or “Laptop at work”.",
	useLabel: "It is for", endLabel: "It ends", days30: "after 30 days", days90: "after 90 days", year: "after a year",
	make: "Make an app password",
	made: "Your new app password", madeHint: "Write it into the device now: it is not shown again. Capitals, spaces and hyphens do not count.",
	copy: "Copy", copied: "Copied", settings: "Settings for the device",
	account: "Account", appPassword: "Password", incoming: "Incoming mail (IMAP)", outgoing: "Outgoing mail (SMTP)", jabber: "Chat (XMPP)",
	codes: "Codes for the camera", codeText: "To read and copy", codeThunderbird: "Thunderbird for Android, K-9 Mail", codeChat: "Conversations",
	apple: "Profile for iPhone, iPad and Mac", appleHint: "The profile has the password in it: delete the file after it was installed.",
	done:   "I have written it down",
	change: "Change the password", changeHint: "This is the password of your account itself. App passwords stay as they are.",
	old: "Password until now", fresh: "New password", again: "New password once more", changeIt: "Change the password",
	didRevoke: "The app password was taken back: it lets nobody in any more.", didChange: "The password was changed.",
	errName: "Give it a name of one line, of up to 100 letters.",
	errFull: "You have too many app passwords: take some back first.", errGone: "There is no such app password any more.",
	errNone: "There are no app passwords for this account.", errFailed: "That did not work. Try again in a moment.",
	errOld: "The password until now is wrong.", errSame: "The new password is the one until now.", errAgain: "The two new passwords differ.",
	errEmpty: "The new password is empty, or has letters that no password may have.", errRejected: "The server does not take this password: it may be too short or too simple.",
	errLater: "The password cannot be changed now. Try again in a moment.",
}

var german = words{
	lang: "de", date: "2.1.2006", time: "2.1.2006, 15:04 MST",
	site: "mein Konto", signOut: "Abmelden", home: "App-Passwörter", passwordPage: "Passwort",
	heading: "App-Passwörter",
	intro:   "Jedes Gerät und jedes Programm bekommt ein eigenes Passwort. Geht eines verloren, ziehen Sie sein Passwort zurück, und die anderen laufen weiter.",
	none:    "Sie haben noch keine App-Passwörter.",
	name:    "Name", use: "Für", last: "Zuletzt benutzt", ends: "Endet", state: "Zustand", unused: "nie",
	everything: "alles", mail: "Mail", chat: "Chat",
	alive: "gültig", expired: "abgelaufen", revoked: "zurückgezogen", never: "nie",
	revoke: "Zurückziehen", revokeOf: "App-Passwort zurückziehen:",
	newOne: "Neues App-Passwort", nameHint: "Wofür es ist, etwa „Telefon“ oder „Laptop im Büro“.",
	useLabel: "Es gilt für", endLabel: "Es endet", days30: "nach 30 Tagen", days90: "nach 90 Tagen", year: "nach einem Jahr",
	make: "App-Passwort anlegen",
	made: "Ihr neues App-Passwort", madeHint: "Tragen Sie es jetzt im Gerät ein: Es wird nicht noch einmal gezeigt. Großschreibung, Leerzeichen und Striche zählen nicht.",
	copy: "Kopieren", copied: "Kopiert", settings: "Einstellungen für das Gerät",
	account: "Konto", appPassword: "Passwort", incoming: "Mail-Eingang (IMAP)", outgoing: "Mail-Ausgang (SMTP)", jabber: "Chat (XMPP)",
	codes: "Codes für die Kamera", codeText: "Zum Lesen und Kopieren", codeThunderbird: "Thunderbird für Android, K-9 Mail", codeChat: "Conversations",
	apple: "Profil für iPhone, iPad und Mac", appleHint: "Das Profil enthält das Passwort: Löschen Sie die Datei, nachdem es installiert ist.",
	done:   "Ich habe es eingetragen",
	change: "Passwort ändern", changeHint: "Das ist das Passwort des Kontos selbst. App-Passwörter bleiben, wie sie sind.",
	old: "Bisheriges Passwort", fresh: "Neues Passwort", again: "Neues Passwort noch einmal", changeIt: "Passwort ändern",
	didRevoke: "Das App-Passwort ist zurückgezogen: Damit kommt niemand mehr hinein.", didChange: "Das Passwort ist geändert.",
	errName: "Geben Sie ihm einen einzeiligen Namen mit bis zu 100 Zeichen.",
	errFull: "Sie haben zu viele App-Passwörter: Ziehen Sie zuerst welche zurück.", errGone: "Dieses App-Passwort gibt es nicht mehr.",
	errNone: "Für dieses Konto gibt es keine App-Passwörter.", errFailed: "Das hat nicht geklappt. Versuchen Sie es gleich noch einmal.",
	errOld: "Das bisherige Passwort stimmt nicht.", errSame: "Das neue Passwort ist das bisherige.", errAgain: "Die beiden neuen Passwörter sind verschieden.",
	errEmpty: "Das neue Passwort ist leer oder enthält unzulässige Zeichen.", errRejected: "Der Server nimmt dieses Passwort nicht: Vielleicht ist es zu kurz oder zu einfach.",
	errLater: "Das Passwort kann gerade nicht geändert werden. Versuchen Sie es gleich noch einmal.",
}

// wordsFor returns the texts for a browser.
func wordsFor(r *http.Request) *words {
	if web.Language(r) == web.German {
		return &german
	}
	return &english
}

func (l *words) day(t time.Time) string { return t.Format(l.date) }

// services names what an app password is for.
func (l *words) services(list []string) string {
	switch {
	case len(list) == 0:
		return l.everything
	case same(list, mailServices):
		return l.mail
	case same(list, chatServices):
		return l.chat
	}
	return strings.Join(list, ", ")
}
