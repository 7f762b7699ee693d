"""One login over XMPP by slixmpp: login.py PORT JID WAY SECRET

WAY is sasl1 (RFC 6120, with PLAIN), the name of another mechanism (the same), sasl2 (XEP-0388 with Bind 2), request (the same, and it asks for a FAST token) or fast (SECRET
is that token, XEP-0484). Prints one line: "success", with the token if one was given, or the failure's condition.
slixmpp 1.10 has neither SASL2 nor OAUTHBEARER (RFC 7628) of its own: they are added here.
"""

import asyncio
import base64
import hashlib
import hmac
import ssl
import sys
from xml.sax.saxutils import quoteattr

from slixmpp import ClientXMPP
from slixmpp.stanza import StreamFeatures
from slixmpp.util.sasl.client import Mech, sasl_mech
from slixmpp.xmlstream import ElementBase, register_stanza_plugin
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

SASL2, BIND2, FAST = "urn:xmpp:sasl:2", "urn:xmpp:bind:0", "urn:xmpp:fast:0"
CLIENT = "d4565fa7-4d72-4749-b3d3-740edbf87770"  # a device keeps its id
LIMIT = 120  # seconds


@sasl_mech(30)
class OAuthBearer(Mech):
    """SECRET is the token. The client does not say who it is, as RFC 6120 has it of one that acts for itself."""

    name = "OAUTHBEARER"
    required_credentials = {"username", "password"}

    def process(self, challenge=b""):
        if challenge:  # why the token is refused
            return b"\x01"
        return b"n,,\x01auth=Bearer " + self.credentials["password"] + b"\x01\x01"


class Authentication(ElementBase):
    name = plugin_attrib = "authentication"
    namespace = SASL2
    interfaces = {"required", "optional"}


class Client(ClientXMPP):
    def __init__(self, jid, way, secret):
        super().__init__(jid, secret)
        self.way, self.secret, self.token = way, secret, ""
        self.outcome = self.loop.create_future()
        self.ssl_context.check_hostname, self.ssl_context.verify_mode = False, ssl.CERT_NONE
        self["feature_mechanisms"].unencrypted_plain = self["feature_mechanisms"].unencrypted_scram = True
        classic = way == "sasl1" or way.isupper()
        self["feature_mechanisms"].use_mech = "PLAIN" if way.islower() else way
        self.register_plugin("xep_0199")
        if not classic:  # FAST is offered to clients that name themselves
            self.stream_header = self.stream_header.replace("<stream:stream ", f"<stream:stream from={quoteattr(jid)} ", 1)
            register_stanza_plugin(StreamFeatures, Authentication)
            self.register_feature("authentication", self.authenticate, restart=True, order=99)
            for name in ("success", "failure"):
                self.register_handler(Callback(name, MatchXPath(f"{{{SASL2}}}{name}"), getattr(self, name)))
        self.add_event_handler("session_start", lambda _: self.loop.create_task(self.ping()))
        self.add_event_handler("failed_auth", lambda stanza: self.ends(stanza["condition"]))
        self.add_event_handler("no_auth", lambda _: self.ends("no mechanism is offered"))
        self.add_event_handler("disconnected", lambda reason: self.ends(f"disconnected: {reason}"))

    def ends(self, outcome):
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def authenticate(self, features):
        if self.authenticated:
            return False
        offered = features["authentication"].xml
        if self.way == "fast":
            fast = offered.find(f"{{{SASL2}}}inline/{{{FAST}}}fast")
            mechanisms = [] if fast is None else [m.text for m in fast]
            mechanism, more = "HT-SHA-256-NONE", f"<fast xmlns='{FAST}'/>"
            mac = hmac.new(self.secret.encode(), b"Initiator", hashlib.sha256).digest()
            message = self.boundjid.user.encode() + b"\0" + mac
        else:
            mechanisms = [m.text for m in offered.findall(f"{{{SASL2}}}mechanism")]
            mechanism, more = "PLAIN", ""
            message = f"\0{self.boundjid.user}\0{self.secret}".encode()
            if self.way == "request":
                more = f"<request-token xmlns='{FAST}' mechanism='HT-SHA-256-NONE'/>"
        if mechanism not in mechanisms:
            self.ends(f"{mechanism} is not among {mechanisms}")
            return True
        self.send_raw(
            f"<authenticate xmlns='{SASL2}' mechanism='{mechanism}'>"
            f"<initial-response>{base64.b64encode(message).decode()}</initial-response>"
            f"<user-agent id='{CLIENT}'/><bind xmlns='{BIND2}'><tag>test</tag></bind>{more}</authenticate>"
        )
        return True

    def success(self, stanza):
        self.authenticated = True
        token = stanza.xml.find(f"{{{FAST}}}token")
        if token is not None:
            self.token = token.attrib["token"]
        if stanza.xml.find(f"{{{BIND2}}}bound") is None:
            self.ends("no resource is bound")
        self.set_jid(stanza.xml.find(f"{{{SASL2}}}authorization-identifier").text)
        self.sessionstarted = True
        self.event("session_bind", self.boundjid)
        self.event("session_start")

    def failure(self, stanza):
        self.ends(stanza.xml[0].tag.partition("}")[2])

    async def ping(self):
        """The session works: the server answers."""
        await self["xep_0199"].ping(self.boundjid.domain)
        self.ends(f"success {self.token}".strip())


async def main(port, jid, way, secret):
    client = Client(jid, way, secret)
    client.connect("127.0.0.1", int(port))
    outcome = await asyncio.wait_for(client.outcome, LIMIT)
    client.abort()
    print(outcome)


asyncio.set_event_loop(asyncio.new_event_loop())
asyncio.get_event_loop().run_until_complete(main(*sys.argv[1:]))
