import Foundation

/// Why a picture file cannot be read or written.
public enum PictureFileError: Error, Sendable, Equatable {
    /// This is none of Apple's systems.
    case unavailable
    /// The file is no picture that the system can read.
    case unreadable(String)
    /// The system cannot make the file.
    case unwritable
}

extension PictureFileError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .unavailable:
            "Picture files are read and written on Apple's systems only; use `kdexport run` here."
        case .unreadable(let name):
            "'\(name)' is no picture that can be read; choose a PNG or JPEG file."
        case .unwritable: "The system could not make the picture's file; try again."
        }
    }
}
