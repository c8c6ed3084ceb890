"""A camera of RTSP for tests: rtsp_server.py PORT [--codec h264|h265|mjpeg] [--user NAME:PASSWORD] ...

Serves a moving ball, encoded as it is sent, at rtsp://ADDRESS:PORT/cam and prints "ready". SIGUSR1 changes
the size of the image. Run it with the Python that has Debian's python3-gi and gir1.2-gst-rtsp-server-1.0.
"""

import argparse
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

SIZES = ((320, 240), (240, 180))
ENCODERS = {
    # One thread makes one slice an image: between slices, rtph264pay would repeat the parameter sets.
    "h264": "x264enc tune=zerolatency threads=1 speed-preset=1 key-int-max=15"
    " ! rtph264pay config-interval=-1 pt=96",
    "h265": "x265enc tune=zerolatency speed-preset=1 key-int-max=15 ! rtph265pay config-interval=-1 pt=96",
    "mjpeg": "jpegenc quality=80 ! rtpjpegpay pt=26",
    "slices": "x264enc tune=zerolatency threads=4 sliced-threads=true speed-preset=1 key-int-max=15"
    " ! rtph264pay config-interval=-1 pt=96",
    "theora": "theoraenc ! rtptheorapay pt=96",
    "sound": "",
}
PROTOCOLS = {"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP}


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("port")
    command.add_argument("--address", default="127.0.0.1")
    command.add_argument("--codec", choices=ENCODERS, default="h264")
    command.add_argument("--rate", type=int, default=15, help="frames per second")
    command.add_argument("--user", help="NAME:PASSWORD")
    command.add_argument("--digest", action="store_true", help="digest instead of basic authentication")
    command.add_argument("--protocols", default="tcp,udp")
    command.add_argument("--tls", help="file with the key and the certificate")
    return command


def launch(codec: str, rate: int) -> str:
    """Return the description of the pipeline."""
    if codec == "sound":
        return "( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8 )"
    width, height = SIZES[0]
    return (
        f"( videotestsrc is-live=true pattern=ball ! videoscale ! capsfilter name=size "
        f"caps=video/x-raw,format=I420,width={width},height={height},framerate={rate}/1 ! "
        f"{ENCODERS[codec]} name=pay0 )"
    )


def demand_password(
    server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, *, digest: bool
) -> None:
    name, password = user.split(":")
    auth, token = server.get_auth() or GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(name, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(name, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role("user")
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)


def encrypt(server: GstRtspServer.RTSPServer, file: str) -> None:
    auth = GstRtspServer.RTSPAuth()
    auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(file))
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "anybody")
    auth.set_default_token(token)
    server.set_auth(auth)


def main() -> None:
    options = parser().parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(options.address)
    server.set_service(options.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch(options.codec, options.rate))
    factory.set_shared(True)
    protocols = GstRtsp.RTSPLowerTrans(0)
    for name in options.protocols.split(","):
        protocols |= PROTOCOLS[name]
    factory.set_protocols(protocols)
    if options.tls:
        encrypt(server, options.tls)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role("anybody")
        permissions.add_permission_for_role("anybody", "media.factory.access", True)
        permissions.add_permission_for_role("anybody", "media.factory.construct", True)
        factory.set_permissions(permissions)
    elif options.user:
        demand_password(server, factory, options.user, digest=options.digest)
    streams, sizes = [], list(SIZES)
    factory.connect("media-configure", lambda _, media: streams.append(media))

    def resize() -> bool:
        sizes.append(sizes.pop(0))
        width, height = sizes[0]
        for media in streams:
            size = media.get_element().get_by_name("size")
            caps = f"video/x-raw,format=I420,width={width},height={height},framerate={options.rate}/1"
            size.set_property("caps", Gst.Caps.from_string(caps))
        return True

    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, resize)
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {options.port} is not free")
    print("ready", flush=True)  # noqa: T201
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
