import Foundation
import KDNumerics

#if canImport(ImageIO)
    import CoreGraphics
    import ImageIO
    import UniformTypeIdentifiers
#endif

/// Picture files, through what Apple's systems have for them.
public enum PictureFile {
    /// The kinds of file that can be written.
    public enum Format: String, Sendable, CaseIterable {
        case png, jpeg

        /// The kind that a file's name asks for, or nil for a kind that cannot be written.
        public init?(_ file: URL) {
            switch file.pathExtension.lowercased() {
            case "png": self = .png
            case "jpg", "jpeg": self = .jpeg
            default: return nil
            }
        }
    }

    /// Reads any kind of picture that the system knows, upright and in sRGB.
    ///
    /// What is transparent becomes black.
    ///
    /// - Parameters:
    ///   - file: The file.
    ///   - longestSide: Makes a larger picture so small that neither side is longer, in pixels; nil
    ///     for its own size.
    /// - Throws: `PictureFileError`; `PictureError` where it has no pixels.
    public static func read(_ file: URL, longestSide: Int? = nil) throws -> Picture {
        #if canImport(ImageIO)
            guard let source = CGImageSourceCreateWithURL(file as CFURL, nil) else {
                throw PictureFileError.unreadable(file.lastPathComponent)
            }
            return try picture(source, name: file.lastPathComponent, longestSide: longestSide)
        #else
            throw PictureFileError.unavailable
        #endif
    }

    /// Reads the content of a picture file, as `read(_:longestSide:)` does.
    ///
    /// - Parameters:
    ///   - data: The bytes of the file.
    ///   - name: What messages call it.
    ///   - longestSide: As for `read(_:longestSide:)`; a photo of 48 megapixels takes hundreds of
    ///     megabytes of memory.
    public static func decode(
        _ data: Data, name: String, longestSide: Int? = nil
    ) throws -> Picture {
        #if canImport(ImageIO)
            guard let source = CGImageSourceCreateWithData(data as CFData, nil) else {
                throw PictureFileError.unreadable(name)
            }
            return try picture(source, name: name, longestSide: longestSide)
        #else
            throw PictureFileError.unavailable
        #endif
    }

    /// Makes the content of a picture file.
    ///
    /// - Parameters:
    ///   - picture: The picture; its values are taken as sRGB.
    ///   - format: The kind of file.
    ///   - description: What the file says of the picture, or nil.
    /// - Throws: `PictureFileError`.
    public static func encode(
        _ picture: Picture, as format: Format = .png, description: String? = nil
    ) throws -> Data {
        #if canImport(ImageIO)
            let data = NSMutableData()
            let type = format == .png ? UTType.png : UTType.jpeg
            guard let image = picture.cgImage,
                let target = CGImageDestinationCreateWithData(
                    data as CFMutableData, type.identifier as CFString, 1, nil)
            else { throw PictureFileError.unwritable }
            let properties = properties(format, description: description)
            CGImageDestinationAddImage(target, image, properties as CFDictionary)
            guard CGImageDestinationFinalize(target) else { throw PictureFileError.unwritable }
            return data as Data
        #else
            throw PictureFileError.unavailable
        #endif
    }
}

#if canImport(ImageIO)
    extension PictureFile {
        private static func picture(
            _ source: CGImageSource, name: String, longestSide: Int?
        ) throws -> Picture {
            guard let stored = CGImageSourceCreateImageAtIndex(source, 0, nil) else {
                throw PictureFileError.unreadable(name)
            }
            let side = max(stored.width, stored.height)
            // A thumbnail of the full size is the way to have the picture turned upright.
            let options: [CFString: Any] = [
                kCGImageSourceCreateThumbnailFromImageAlways: true,
                kCGImageSourceCreateThumbnailWithTransform: true,
                kCGImageSourceThumbnailMaxPixelSize: min(side, max(longestSide ?? side, 1)),
            ]
            let upright = CGImageSourceCreateThumbnailAtIndex(source, 0, options as CFDictionary)
            return try Picture(upright ?? stored, name: name)
        }

        private static func properties(
            _ format: Format, description: String?
        ) -> [CFString: Any] {
            guard let description else {
                return [kCGImageDestinationLossyCompressionQuality: 0.95]
            }
            switch format {
            case .png:
                return [
                    kCGImagePropertyPNGDictionary: [kCGImagePropertyPNGDescription: description]
                ]
            case .jpeg:
                return [
                    kCGImageDestinationLossyCompressionQuality: 0.95,
                    kCGImagePropertyTIFFDictionary: [
                        kCGImagePropertyTIFFImageDescription: description
                    ],
                ]
            }
        }
    }
#endif
