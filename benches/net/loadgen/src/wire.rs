//! A connection of the load: plain, or TLS by rustls.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::stream::{Address, Stream};

/// The name in the server's certificate.
const HOST: &str = "localhost";

/// How clients speak TLS: servers must show a certificate for `localhost` that one of the
/// authorities in the PEM file has signed. Every handshake is a full one.
pub fn tls_config(authorities: &str) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(authorities).map_err(Error::other)? {
        let authority = authority.map_err(Error::other)?;
        roots.add(authority).map_err(Error::other)?;
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Where to connect, and how.
pub struct Target {
    /// The server.
    pub address: Address,
    /// With TLS, if any.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A connection that sends messages and receives their echo.
pub struct Wire {
    stream: Stream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    /// Connects, and blocks meanwhile. The TLS handshake comes with the first message.
    pub fn connect(target: &Target) -> io::Result<Wire> {
        let tls = match &target.tls {
            Some(config) => {
                let name = ServerName::try_from(HOST).map_err(Error::other)?;
                let mut tls = ClientConnection::new(config.clone(), name).map_err(Error::other)?;
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
            None => None,
        };
        Ok(Wire {
            stream: Stream::connect(&target.address)?,
            tls,
        })
    }

    /// Sends more of a message of which `sent` bytes are gone. Returns true once all are gone.
    pub fn send(&mut self, message: &[u8], sent: &mut usize) -> io::Result<bool> {
        let rest = &message[*sent..];
        let Some(tls) = &mut self.tls else {
            if !rest.is_empty() {
                *sent += self.stream.write(rest)?.unwrap_or(0);
            }
            return Ok(*sent == message.len());
        };
        tls.writer().write_all(rest)?;
        *sent = message.len();
        self.flush()
    }

    /// Reads the bytes that have come: `None` if there are none, 0 at the end of the stream.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(tls) = &mut self.tls else {
            return self.stream.read(buffer);
        };
        let mut count = 0;
        loop {
            let ended = match tls.read_tls(&mut Raw(&mut self.stream)) {
                Ok(read) => read == 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            tls.process_new_packets().map_err(Error::other)?;
            while count < buffer.len() {
                match tls.reader().read(&mut buffer[count..]) {
                    Ok(0) => break,
                    Ok(read) => count += read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if ended || count == buffer.len() {
                return Ok(Some(count));
            }
        }
        self.flush()?;
        Ok((count > 0).then_some(count))
    }

    /// Closes the TLS session, as far as the socket takes the bytes.
    pub fn close(mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            self.flush()?;
        }
        Ok(())
    }

    /// Sends the encrypted bytes. Returns true once all are gone.
    fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Ok(true);
        };
        while tls.wants_write() {
            match tls.write_tls(&mut Raw(&mut self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The stream as rustls wants it, for which "would block" is an error.
struct Raw<'a>(&'a mut Stream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        read.ok_or_else(|| ErrorKind::WouldBlock.into())
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        written.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let written = self.0.write_vectored(slices)?;
        written.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
