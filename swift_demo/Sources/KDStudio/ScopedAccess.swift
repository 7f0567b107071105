import Foundation

/// Permission to read what the user picked outside of the app, until it is ended.
struct ScopedAccess {
    private let url: URL
    private let isOpen: Bool

    /// Asks for it; a folder of the app's own needs none.
    init(_ url: URL) {
        self.url = url
        #if canImport(Darwin)
            isOpen = url.startAccessingSecurityScopedResource()
        #else
            isOpen = false
        #endif
    }

    /// Gives it back.
    func end() {
        #if canImport(Darwin)
            if isOpen { url.stopAccessingSecurityScopedResource() }
        #endif
    }
}
