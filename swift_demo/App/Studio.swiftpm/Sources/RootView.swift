import KDStudio
import SwiftUI

/// The parts of the app: drawing, what was drawn, what to draw with.
struct RootView: View {
    /// The parts.
    enum Part: Hashable {
        case draw, gallery, models
    }

    @Environment(Studio.self) private var studio
    @State private var part = Part.draw

    var body: some View {
        @Bindable var studio = studio
        TabView(selection: $part) {
            NavigationStack { DrawView(showModels: { part = .models }) }
                .tabItem { Label("Draw", systemImage: "paintbrush") }
                .tag(Part.draw)
            NavigationStack { GalleryView(showDrawing: { part = .draw }) }
                .tabItem { Label("Gallery", systemImage: "photo.on.rectangle") }
                .tag(Part.gallery)
            NavigationStack { ModelsView() }
                .tabItem { Label("Models", systemImage: "shippingbox") }
                .tag(Part.models)
        }
        .alert("Note", isPresented: $studio.hasNotice) {
            Button("OK") { studio.notice = nil }
        } message: {
            Text(studio.notice ?? "")
        }
    }
}
